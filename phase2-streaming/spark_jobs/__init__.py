"""Phase 2: Kafka to Delta Bronze, exactly once."""
