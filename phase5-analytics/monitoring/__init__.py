"""Drift: how far live payments and their scores have moved from those that the model was trained with.

python3 -m monitoring
"""
