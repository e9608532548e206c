"""A hook of schemathesis: JSON Schema can't say that an event time is at most five minutes ahead."""

from datetime import UTC, datetime

import schemathesis
from fraud_common.payments import EARLIEST_EVENT_TIME
from hypothesis import strategies as st

event_times = st.datetimes(EARLIEST_EVENT_TIME.replace(tzinfo=None), datetime.now(UTC).replace(tzinfo=None))
schemathesis.openapi.format("date-time", event_times.map(lambda moment: f"{moment.isoformat()}Z"))
