"""Which live rules fire far more than their backtest has shown; the worker pauses them.

A rule that was meant for ten payments a day and declines every second one is a mistake, and customers pay for it. The
window is a day of event time, since the expectation is one of a day too, and the simulated clock runs faster than a
real one. So the guard is the faster, the worse it is: within seconds if every payment matches. What a rule
did before it became live again does not count (scorecards.py).
"""

from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

# So many times the expected hits of a day are a runaway; fewer hits than the minimum may be chance.
TIMES_EXPECTED = 10
MINIMUM_HITS = 100

# The fullest day of each rule among those that were counted lately, so that one wrong event time hides nothing.
_FULLEST_DAYS = """
with days as (
    select
        rule_id, version,
        sum(hits) over (
            partition by rule_id, version order by hour range between interval '23 hours' preceding and current row
        ) as hits
    from rule_hours
)
select rules.name, rule_versions.version, max(days.hits)::bigint, rule_versions.expected_hits_per_day
from days
join rule_versions using (rule_id, version)
join rules using (rule_id)
where rule_versions.state = 'live' and rule_versions.expected_hits_per_day is not null
group by rules.name, rule_versions.version, rule_versions.expected_hits_per_day
order by rules.name
"""


@dataclass(frozen=True, slots=True)
class LiveRule:
    """A live version, its hits in the fullest 24 hours, and how many its backtest has on a day."""

    name: str
    version: int
    hits: int
    expected: float

    @property
    def is_runaway(self) -> bool:
        """Whether it fires far more than expected."""
        return self.hits >= max(MINIMUM_HITS, TIMES_EXPECTED * self.expected)

    @property
    def reason(self) -> str:
        """Why it is paused, for people who find it so."""
        return (
            f"paused itself: {self.hits:,} hits within 24 hours of payments, {TIMES_EXPECTED} times the "
            f"{self.expected:,.1f} a day that its backtest expects (and at least {MINIMUM_HITS})"
        )


def guarded(connection: Connection) -> list[LiveRule]:
    """The live rules that have fired lately and have a backtest to compare with."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_FULLEST_DAYS)
        return [LiveRule(*row) for row in cursor.fetchall()]
