"""Phase 4: a model is trained from Gold, evaluated, registered in MLflow, and promoted under rules."""
