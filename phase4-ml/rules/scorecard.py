"""Scorecards of a rule's versions, from the view rule_scorecards: what they did, live and shadow, as labels mature."""

from dataclasses import dataclass, fields
from datetime import date, datetime

from psycopg2.extensions import cursor as Cursor

from rules.store import rule_id_of


@dataclass(frozen=True, slots=True)
class Scorecard:
    """What a version did in a state; the fields are those of the view. What is not known yet is None.

    Attributes:
        state: of the hits, live or shadow: a live version is shadow for users outside its rollout.
        amount: in euros, of the hits whose exchange rate is known.
        frauds: of the hits, known so far.
        expected_precision: the mean of the hits' fraud probabilities.
        matured: hits on days whose labels have matured; the precisions but the expected one are those of these.
        precision_low: with precision_high, the interval at 95 %.
        marginal_hits: hits on payments that the model alone would have let pass, or not queued.
    """

    version: int
    state: str
    first_day: date
    last_day: date
    last_hit_at: datetime
    hits: int
    hits_per_day: float
    expected_hits_per_day: float | None
    queue_hits: int
    amount: float
    frauds: int
    expected_precision: float
    matured: int
    matured_frauds: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    matured_expected_precision: float | None
    marginal_hits: int
    matured_marginal_hits: int
    matured_marginal_frauds: int
    marginal_precision: float | None


_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(Scorecard))


def get_scorecards(cursor: Cursor, name: str) -> list[Scorecard]:
    """Those of a rule's versions that have fired, the newest version first.

    Raises:
        NotFoundError: there is no rule of this name.
    """
    cursor.execute(
        f"select {_COLUMNS} from rule_scorecards where rule_id = %s order by version desc, state",
        (rule_id_of(cursor, name),),
    )
    return [Scorecard(*row) for row in cursor.fetchall()]
