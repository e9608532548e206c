"""The simulator: cardholders, merchants, legitimate payments and fraud, as one reproducible stream."""
