"""The same model as ONNX, which scores a payment in a hundredth of scikit-learn's time, and a check that both agree."""

from typing import Any

import numpy as np
import onnxruntime
from features import FEATURES
from fraud_common.errors import UserError
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from training.examples import Examples

OPSET = 18
# Of a probability; sums over a few hundred trees in 32 bits may differ this much.
TOLERANCE = 1e-5
INPUT, OUTPUT = "features", "probabilities"


def export_onnx(model: Any) -> bytes:
    """The model in ONNX: input `features` of shape (n, len(FEATURES)), output `probabilities` of shape (n, 2)."""
    onnx = to_onnx(
        model,
        initial_types=[(INPUT, FloatTensorType([None, len(FEATURES)]))],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    return onnx.SerializeToString()


def onnx_scores(onnx: bytes, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability of fraud of each row, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return session.run((OUTPUT,), {INPUT: matrix})[0][:, 1].astype(float)


def check_parity(onnx: bytes, holdout: Examples, scores: NDArray[np.float64]) -> float:
    """Compare ONNX's scores of the holdout with scikit-learn's; returns the largest difference.

    Raises:
        UserError: it is above TOLERANCE, so this model can't be served.
    """
    difference = np.abs(onnx_scores(onnx, holdout.matrix) - scores)
    if difference.max() > TOLERANCE:
        raise UserError(
            f"ONNX and scikit-learn differ by up to {difference.max():.2g} on the holdout, {TOLERANCE:g} is allowed "
            f"({(difference > TOLERANCE).sum():,} of {len(difference):,} payments): this model is not registered"
        )
    return float(difference.max())
