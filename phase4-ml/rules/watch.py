"""What Prometheus knows about rules: how many there are in each state, which ruleset is newest, which rules never fire.

The states are those of the database; what serving workers do with them are the API's own metrics.
"""

from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

# By whom the guard pauses a rule.
GUARD = "rules-worker"

_BY_STATE = "select state, count(*) from rule_versions group by state"
_NEWEST = "select coalesce(max(ruleset_id), 0) from rulesets"
# Since the last hit of any version, or since the rule became live.
_WITHOUT_HIT = """
select
    rules.name,
    extract(epoch from now() - greatest(
        (select max(last_hit_at) from rule_days where rule_days.rule_id = live.rule_id and rule_days.state = 'live'),
        (
            select max(at) from rule_events
            where rule_events.rule_id = live.rule_id and rule_events.version = live.version and to_state = 'live'
        ),
        live.approved_at
    ))::double precision / 86400
from rule_versions as live
join rules using (rule_id)
where live.state = 'live'
"""
# Until somebody has done something about it: the newest event of a rule is that the guard paused it.
_PAUSED_ITSELF = """
select rules.name
from (select distinct on (rule_id) rule_id, to_state, by from rule_events order by rule_id, event_id desc) as newest
join rules using (rule_id)
where newest.to_state = 'paused' and newest.by = %s
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is so now.

    Attributes:
        by_state: how many versions of rules are in each state.
        newest_ruleset: the id of the ruleset in force; 0 if there is none.
        days_without_hit: of each live rule, by name.
        paused_itself: names of the rules that the guard has paused, and of which nothing has become since.
    """

    by_state: dict[str, int]
    newest_ruleset: int
    days_without_hit: dict[str, float]
    paused_itself: list[str]


def look(connection: Connection) -> Watched:
    """Ask the database."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_BY_STATE)
        by_state = dict(cursor.fetchall())
        cursor.execute(_NEWEST)
        ((newest_ruleset,),) = cursor.fetchall()
        cursor.execute(_WITHOUT_HIT)
        days_without_hit = dict(cursor.fetchall())
        cursor.execute(_PAUSED_ITSELF, (GUARD,))
        paused_itself = [name for (name,) in cursor.fetchall()]
    return Watched(by_state, newest_ruleset, days_without_hit, paused_itself)
