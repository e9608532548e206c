"""What a valid payment is: the bounds that every part of the platform checks."""

from datetime import UTC, datetime, timedelta

# Clocks differ; a payment may seem to come from this far ahead of the time at which it arrived.
CLOCK_SKEW = timedelta(minutes=5)
# Before any payment.
EARLIEST_EVENT_TIME = datetime(2000, 1, 1, tzinfo=UTC)
# An amount has at most 12 digits, two of them after the point.
MAX_AMOUNT_CENTS = 10**12 - 1
