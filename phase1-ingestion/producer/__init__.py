"""Phase 1: everything that writes to Kafka before Spark reads it."""
