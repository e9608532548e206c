"""The dead letter tools: what is in transactions.dlq and why, and sending it back after a repair."""
