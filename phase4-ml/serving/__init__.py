"""Phase 4: every payment scored in milliseconds, by the features in Redis and the model in Production."""
