"""Reasons for scores: the explainer service, in the training image."""
