"""Restores in NumPy 2 the names that Superset and its pandas helpers still use."""

import numpy as np

if not hasattr(np, "product"):
    np.product = np.prod
if not hasattr(np, "NaN"):
    np.NaN = np.nan
