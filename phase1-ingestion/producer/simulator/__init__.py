"""The simulator: cardholders, merchants, honest payments and fraud, as one reproducible stream."""
