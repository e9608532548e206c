"""Phase 4: trains a model from Gold, evaluates it, registers it in MLflow, and promotes it under rules."""
