"""Drift: how far live payments and their scores have moved from those that the model was made with.

python -m drift
"""
