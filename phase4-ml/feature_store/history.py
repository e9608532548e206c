"""Whether Redis still has the payments that Gold counts: a history that is gone must not look like that of a newcomer.

A key can be lost alone: somebody deletes it, or a Redis elsewhere evicts it. The next payment then begins a new one,
which nothing in Redis distinguishes from that of a new user. So the number of payments before the snapshot's own moment
is compared: the stream never has fewer of them than Gold, in a window of which it keeps everything. Upstream are the
members of `layout.py` and the snapshots; downstream are the predictor and the reconciliation.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from features import DAY_MS, WINDOWS_DAYS, MerchantDay, MerchantFeatures, UserFeatures, milliseconds

from feature_store.layout import KEEP_DAYS, event_time_of, first_member_of, kept_from

# The totals of a merchant that is paid all the time may differ by some late payments; what was lost lacks nearly all.
_MERCHANT_TOLERANCE = 0.9


def window_to_compare(as_of: int, kept: int) -> int:
    """The longest window before a moment of which everything is kept, in days; 0 if there is none.

    Args:
        as_of: the moment of a snapshot; where the simulated clock is fast, a day or more before the newest payment.
        kept: payments before it are removed; both in milliseconds of event time.
    """
    return max((days for days in WINDOWS_DAYS if as_of - days * DAY_MS >= kept), default=0)


def has_all_payments(events: Sequence[bytes], data_clock: int, snapshot: UserFeatures, max_payments: int) -> bool:
    """Whether a user's members of user_events are no fewer than the payments that a snapshot counts.

    Args:
        data_clock: in milliseconds.
        max_payments: how many payments of a user are kept, 0 if that is unknown; a user who has so many lacks others.
    """
    if snapshot.as_of is None or 0 < max_payments <= len(events):
        return True
    as_of = milliseconds(snapshot.as_of)
    newest = event_time_of(events[-1]) if events else data_clock
    days = window_to_compare(as_of, kept_from(newest, data_clock))
    if not days:
        return True
    # Gold's windows begin with their first millisecond and end with that of `as_of`.
    begin, end = (bisect_left(events, first_member_of(moment)) for moment in (as_of - days * DAY_MS, as_of + 1))
    return bool(end - begin >= getattr(snapshot, f"transactions_{days}d"))


def has_all_days(days: Mapping[int, MerchantDay], data_clock: int, snapshot: MerchantFeatures) -> bool:
    """The same of a merchant's totals by day, which count whole days before that of the snapshot."""
    if snapshot.as_of is None:
        return True
    today = milliseconds(snapshot.as_of) // DAY_MS
    # Of the first day that is kept, a rebuild has a part only.
    window = window_to_compare(today * DAY_MS, (data_clock // DAY_MS - KEEP_DAYS + 1) * DAY_MS)
    # A history that was lost has few days; of most merchants nothing needs to be added up.
    if not window or len(days) > window:
        return True
    counted = sum(totals.payments for day, totals in days.items() if 0 < today - day <= window)
    return bool(counted >= _MERCHANT_TOLERANCE * getattr(snapshot, f"merchant_transactions_{window}d"))
