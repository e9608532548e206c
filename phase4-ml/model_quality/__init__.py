"""Live quality of the model: labels beside the predictions that they confirm or refute."""
