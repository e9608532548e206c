"""The query of a backtest: every payment of some days, with what the rules say of it, counted in cells. Pure text.

A payment comes from two sources, and from the first one that has it:

predictions  What serving saw: the features of the audit, NULL for the groups that `unknown_features` names, and list
             membership as of the decision. From Postgres, and from the archive in Gold for older days. A payment that
             was scored more than once counts once, as it was first.
history      mart_training_examples with gold.example_scores: what serving would have seen with a complete history. So
             no group is NULL there, except that of the device where the payment names none; list membership is as of
             the payment's own time.

Features are rounded to float32, as in the model's input, and are doubles then: rules/facts.py has the same values. The
label is that of the matured payments, which mart_training_examples has; every other payment's is unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from textwrap import indent

from features import ALL_FEATURES, NO_CURRENCY

from rules.backtest.plan import Plan, Rule
from rules.catalogue import CATALOGUE
from rules.to_trino import list_column, literal, predicate

# Examples that each cell keeps; the report shows as many of each kind.
EXAMPLES = 20
RANKS = {"approve": 0, "challenge": 1, "decline": 2}
# Of the payment itself, as both sources have them.
IDS = ("transaction_id", "user_id", "merchant_id")
TEXTS = ("currency", "country", "device_id", "device_type", "merchant_category")
# Always read: money is counted in the reference currency.
ALWAYS = ("amount", "currency")
# Made of other columns.
DERIVED = ("amount_ref", "is_round_amount")
OWN = {*IDS, *TEXTS, *DERIVED, "amount", "is_international", "fraud_probability", "risk_tier"}
_FEATURES = {feature.name: feature for feature in ALL_FEATURES}

# What each row of the result has before the counts of the curve.
DIMENSIONS = (
    "day", "source", "label", "hit", "was_hit", "answer", "queue", "declined", "held_out", "learned"
)  # fmt: skip
MEASURES = ("payments", "amount", "without_rate", "score", "scored", "recorded", "recorded_hits", "examples")


@dataclass(frozen=True, slots=True)
class Tables:
    """What exists besides the examples, and what settings decide.

    Attributes:
        gold: the schema.
        has_scores: example_scores exists.
        archive_columns: those of predictions_archive; none if it does not exist.
        decline_high: the model declines what is in tier high (DECISION_DECLINE_HIGH).
    """

    gold: str = "gold"
    silver: str = "silver"
    has_scores: bool = True
    archive_columns: frozenset[str] = frozenset()
    decline_high: bool = False


def query_of(plan: Plan, first: date, last: date, tables: Tables, rates: Iterable[Sequence[object]]) -> str:
    """The query over the days from `first` to `last`, in UTC.

    Args:
        rates: rows of currency, first day, day after the last one or None, and euros for one unit.
    """
    variants = plan.curve.variants if plan.curve else ()
    shown = [name for name in plan.candidate.expression.names if name not in _SHOWN]
    example = ", ".join([*_SHOWN.values(), *shown])
    return f"""{relations_of(plan, first, last, tables, rates)}
select
    day, source, label, rule_0 as hit, {"rule_1" if plan.before else "false"} as was_hit,
    answer, queue, declined, held_out, learned,
    count(*) as payments,
    coalesce(sum(amount_ref), 0e0) as amount,
    count_if(amount_ref is null) as without_rate,
    coalesce(sum(fraud_probability), 0e0) as score,
    count(fraud_probability) as scored,
    count_if(recorded) as recorded,
    count_if(recorded and rule_0) as recorded_hits,
    max_by(
        cast(row({example}) as row({_types(shown)})),
        {_SHOWN["key"]}, {EXAMPLES}
    ) filter (where rule_0 or label = 'fraud') as examples{"".join(_counts(n) for n in range(len(variants)))}
from decided
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"""


def relations_of(
    plan: Plan, first: date, last: date, tables: Tables, rates: Iterable[Sequence[object]], also: Sequence[str] = ()
) -> str:
    """The `with` of a query: in the end `decided`, with a row for each payment of the days.

    A row has the payment, the names that the plan's rules read, whether each of them fires (`rule_0`, …), and the
    decision of the model and the live rules: `answer` (its rank in RANKS) and `queue`.

    Args:
        rates: as for query_of.
        also: further names of the catalogue.
    """
    names = tuple(dict.fromkeys((*ALWAYS, *plan.names, *also)))
    features = [name for name in names if name not in OWN]
    key = plan.candidate.key
    sources = [f"select * from {_stored_now(features, key, first, last)}"]
    if tables.archive_columns:
        sources.append(_archived(features, key, first, last, tables))
    lists = plan.lists
    rules = plan.rules
    checks = ",\n        ".join(
        f"coalesce({predicate(rule.expression)}, false) as rule_{number}" for number, rule in enumerate(rules)
    )
    variants = plan.curve.variants if plan.curve else ()
    varied = "".join(
        f",\n        coalesce({predicate(variant.expression)}, false) as variant_{number}"
        for number, variant in enumerate(variants)
    )
    return f"""with
-- Of several scores of a payment, the first.
predictions as (
    select * from (
        select *, row_number() over (partition by transaction_id order by predicted_at) as copy
        from ({" union all ".join(sources)})
    ) where copy = 1
),
history as (
{indent(_history(features, first, last, tables), " " * 4)}
),
joined as (
    select
        {_comma(_joined(features), 8)}
    from predictions full join history on predictions.transaction_id = history.transaction_id
),
rates (rate_currency, valid_from, valid_to, rate) as (
    values {_comma((_rate(row) for row in rates), 8)}
),
payments as (
    select
        joined.*,
        {_to_cents("amount * rate")} as amount_ref,
        mod(floor(amount * 1e2 + 5e-1), 1e3) = 0e0 as is_round_amount
    from joined left join rates
        on currency = rate_currency and day >= valid_from and (valid_to is null or day < valid_to)
),
facts as (
    select payments.*{"".join(_membership(number, pair) for number, pair in enumerate(lists))}
    from payments{"".join(_join_list(number, pair) for number, pair in enumerate(lists))}
),
checked as (
    select
        facts.*,
        {checks}{varied}
    from facts
),
decided as (
    select *, {_decided(plan, tables)}
    from checked
)"""


# What an example shows of each payment, before the values of the rule's names.
_SHOWN = {
    "key": "from_big_endian_64(xxhash64(to_utf8(transaction_id)))",
    "transaction_id": "transaction_id",
    "user_id": "user_id",
    "merchant_id": "merchant_id",
    "event_time": "cast(event_time as varchar)",
    "amount": "amount",
    "currency": "currency",
    "fraud_probability": "fraud_probability",
    "risk_tier": "risk_tier",
}
_TYPES = {"number": "double", "boolean": "boolean", "text": "varchar"}
_SHOWN_TYPES = {"key": "bigint", "amount": "double", "fraud_probability": "double"}


def shown_names(plan: Plan) -> list[str]:
    """What the rows of `examples` have, in their order."""
    return [*_SHOWN, *(name for name in plan.candidate.expression.names if name not in _SHOWN)]


def _types(shown: Sequence[str]) -> str:
    kinds = [_SHOWN_TYPES.get(name, "varchar") for name in _SHOWN] + [_TYPES[CATALOGUE[name].type] for name in shown]
    return ", ".join(f"{name} {kind}" for name, kind in zip((*_SHOWN, *shown), kinds, strict=True))


def _stored_now(features: Sequence[str], key: tuple[int, int] | None, first: date, last: date) -> str:
    """Predictions in Postgres, which reads the few features that are wanted out of each row itself."""
    record = ", ".join(f"{name} float4" for name in features)
    values = "".join(f", read.{name}" for name in features)
    inner = (
        f"select transaction_id, user_id, merchant_id, amount, is_international, event_time, predicted_at,"
        f" fraud_probability, risk_tier, {', '.join(TEXTS)}, {_UNKNOWN} as unknown, decision is not null as decided,"
        f" coalesce(decision = 'decline', false) as declined, coalesce(held_out, false) as held_out,"
        f" {_recorded_in_postgres(key)} as recorded{values}"
        f" from predictions{f', jsonb_to_record(features) as read({record})' if features else ''}"
        f" where event_time >= '{first}T00:00:00Z' and event_time < '{last + timedelta(days=1)}T00:00:00Z'"
    )
    return f"table(fraud.system.query(query => {_quoted(inner)}))"


# Rows of releases before rules don't say which groups were defaults; then their source does.
_UNKNOWN = (
    "coalesce(unknown_features, case feature_source when 'default' then 'user,novelty,device'"
    " when 'batch' then 'novelty,device' else '' end)"
)


def _recorded_in_postgres(key: tuple[int, int] | None) -> str:
    """Whether the rule fired when the payment was scored, live or for its user outside the rollout or suppressed."""
    if key is None:
        return "false"
    # As elements: containment in JSON takes [2, 1] for [1, 2].
    pair = f"'[{key[0]}, {key[1]}]'::jsonb"
    return "coalesce(" + " or ".join(f"{pair} in {_elements(part)}" for part in _RECORDED) + ", false)"


def _elements(part: str) -> str:
    return f"(select jsonb_array_elements(rule_results->'{part}'))"


_RECORDED = ("fired", "shadow", "suppressed")


def _archived(features: Sequence[str], key: tuple[int, int] | None, first: date, last: date, tables: Tables) -> str:
    """The same of the archive, where JSON is text, and a day is one of the clock that stored the rows."""

    def column(name: str, kind: str) -> str:
        # The archive of an earlier release has no decisions.
        return name if name in tables.archive_columns else f"cast(null as {kind})"

    pair = f"array[bigint '{key[0]}', bigint '{key[1]}']" if key else ""
    recorded = " or ".join(
        f"contains(cast(json_extract(rule_results, '$.{part}') as array(array(bigint))), {pair})" for part in _RECORDED
    )
    columns = [
        *IDS,
        "amount",
        "is_international",
        "cast(event_time as timestamp(6) with time zone)",
        "cast(predicted_at as timestamp(6) with time zone)",
        "fraud_probability",
        "risk_tier",
        *(column(name, "varchar") for name in TEXTS),
        _UNKNOWN.replace("unknown_features", column("unknown_features", "varchar")),
        f"{column('decision', 'varchar')} is not null",
        f"coalesce({column('decision', 'varchar')} = 'decline', false)",
        f"coalesce({column('held_out', 'boolean')}, false)",
        f"coalesce({recorded}, false)" if key and "rule_results" in tables.archive_columns else "false",
        *(f"cast(element_at(read, '{name}') as real)" for name in features),
    ]
    days = f"event_time >= {_moment(first)} and event_time < {_moment(last + timedelta(days=1))}"
    return (
        f"select {', '.join(columns)} from (select *, cast(json_parse(features) as map(varchar, double)) as read"
        f" from delta.{tables.gold}.predictions_archive where {days})"
    )


def _history(features: Sequence[str], first: date, last: date, tables: Tables) -> str:
    """Training examples with what was sent, and the score of the model that serves."""
    days = f"event_date between date '{first}' and date '{last}'"
    scores = (
        f"(select transaction_id, event_date, fraud_probability, risk_tier, learned from"
        f" delta.{tables.gold}.example_scores where {days})"
        if tables.has_scores
        else "(select '' as transaction_id, date '1970-01-01' as event_date, 0e0 as fraud_probability,"
        " '' as risk_tier, false as learned where false)"
    )
    values = "".join(f",\n    {_feature_of_example(name)} as {name}" for name in features)
    return f"""select
    examples.transaction_id, examples.user_id, examples.merchant_id, examples.amount, examples.is_international,
    examples.event_time, examples.is_fraud, sent.currency, sent.country, sent.device_id, examples.device_type,
    sent.merchant_category, scores.fraud_probability, scores.risk_tier, scores.learned{values}
from (select * from delta.{tables.gold}.mart_training_examples where {days}) as examples
left join (select * from delta.{tables.silver}.stg_transactions where {days}) as sent
    on examples.event_date = sent.event_date and examples.transaction_id = sent.transaction_id
left join {scores} as scores
    on examples.event_date = scores.event_date and examples.transaction_id = scores.transaction_id"""


def _feature_of_example(name: str) -> str:
    feature = _FEATURES[name]
    if feature.column_value:
        return f"cast(coalesce(examples.{feature.column} = '{feature.column_value}', false) as real)"
    value = f"cast(examples.{feature.column or name} as real)"
    if CATALOGUE[name].group == "device":
        return f"if(coalesce(sent.device_id, '') = '', null, {value})"
    return value


def _joined(features: Sequence[str]) -> list[str]:
    """One row for each payment: what the prediction says, if there is one."""
    found = "predictions.transaction_id is not null"
    return [
        *(f"coalesce(predictions.{name}, history.{name}) as {name}" for name in IDS),
        f"{_to_cents('coalesce(predictions.amount, history.amount)')} as amount",
        "coalesce(predictions.is_international, history.is_international) as is_international",
        "coalesce(predictions.event_time, history.event_time) as event_time",
        "date(coalesce(predictions.event_time, history.event_time) at time zone 'UTC') as day",
        "coalesce(predictions.predicted_at, history.event_time) as list_time",
        *(f"{_text(name)} as {name}" for name in TEXTS),
        f"if({found}, predictions.fraud_probability, history.fraud_probability) as fraud_probability",
        f"if({found}, predictions.risk_tier, history.risk_tier) as risk_tier",
        f"case when {found} then 'prediction' when history.fraud_probability is null then 'unscored'"
        " else 'history' end as source",
        "case when history.transaction_id is null then 'unknown' when history.is_fraud then 'fraud'"
        " else 'legitimate' end as label",
        "coalesce(predictions.declined, false) as declined",
        "coalesce(predictions.held_out, false) as held_out",
        "coalesce(predictions.recorded, false) as recorded",
        f"not {found} and coalesce(history.learned, false) as learned",
        *(f"{_feature(name)} as {name}" for name in features),
    ]


def _text(name: str) -> str:
    """What was sent; predictions of releases before rules don't say it, but Silver does. Empty counts as not given."""
    sent = f"if(predictions.decided, predictions.{name}, history.{name})"
    if name == "currency":
        return f"nullif(nullif({sent}, ''), '{NO_CURRENCY}')"
    return f"nullif({sent}, '')"


def _feature(name: str) -> str:
    """A feature as rules see it: NULL where its group was unknown."""
    group = CATALOGUE[name].group
    known = f"predictions.{name}"
    if group != "payment":
        known = f"if(strpos(predictions.unknown, '{group}') > 0, null, {known})"
    value = f"if(predictions.transaction_id is not null, {known}, history.{name})"
    return f"{value} <> real '0'" if CATALOGUE[name].type == "boolean" else f"cast({value} as double)"


def _membership(number: int, pair: tuple[str, str]) -> str:
    """Whether the value was on a list then; NULL where the value is, or if there is no such list."""
    name, _ = pair
    times = "x -> x.valid_from <= list_time and (x.valid_to is null or list_time < x.valid_to)"
    on_list = f"coalesce(any_match(on_list_{number}.times, {times}), false)"
    return f",\n        if({name} is not null and list_{number}.there, {on_list}) as {list_column(*pair)}"


def _join_list(number: int, pair: tuple[str, str]) -> str:
    name, list_name = pair
    return f"""
    cross join (
        select count(*) > 0 as there from fraud.public.lists where list_name = {_quoted(list_name)}
    ) as list_{number}
    left join (
        select value, array_agg(cast(row(valid_from, valid_to) as row(
            valid_from timestamp(6) with time zone, valid_to timestamp(6) with time zone
        ))) as times
        from fraud.public.list_members where list_name = {_quoted(list_name)} group by value
    ) as on_list_{number} on {name} = on_list_{number}.value"""


def _decided(plan: Plan, tables: Tables) -> str:
    """The decision without the candidate and what it changes, as rules/decide.py combines model and live rules."""
    first = len(plan.rules) - len(plan.live)
    others = [(f"rule_{number}", rule) for number, rule in enumerate(plan.live, start=first)]
    rules = [(column, rule) for column, rule in others if rule.lane == "rule"]
    exceptions = [(column, rule) for column, rule in others if rule.lane == "exception"]
    by_list = [(column, rule) for column, rule in rules if rule.declines_by_list]
    model = f"case risk_tier when 'high' then {2 if tables.decline_high else 1} when 'medium' then 1 else 0 end"
    answer = f"greatest({', '.join([model, *(_rank(*each, 0) for each in rules), '0'])})"
    queue = _any(["coalesce(risk_tier = 'high', false)", *(column for column, rule in rules if rule.queue)])
    if exceptions:
        # 9 is stricter than all, as long as no exception fires.
        lowest = f"least({', '.join([*(_rank(*each, 9) for each in exceptions), '9'])})"
        asks = _any([column for column, rule in exceptions if rule.queue])
        queue = f"if({lowest} <= {answer}, {asks} and ({queue} or {lowest} < {answer}), {queue})"
        answer = f"least({lowest}, {answer})"
        if by_list:
            # Nothing lowers these.
            answer = f"if({_any([column for column, _ in by_list])}, 2, {answer})"
            queue = _any([queue, *(column for column, rule in by_list if rule.queue)])
    return f"{answer} as answer, {queue} as queue"


def _rank(column: str, rule: Rule, otherwise: int) -> str:
    return f"if({column}, {RANKS[rule.answer]}, {otherwise})"


def _any(conditions: Sequence[str]) -> str:
    return f"({' or '.join(conditions)})" if conditions else "false"


def _counts(number: int) -> str:
    variant = f"variant_{number}"
    return f",\n    count_if({variant}), coalesce(sum(amount_ref) filter (where {variant}), 0e0)"


def _to_cents(amount: str) -> str:
    """As rules/money.py."""
    return f"(floor(({amount}) * 1e2 + 5e-1) / 1e2)"


def _rate(row: Sequence[object]) -> str:
    currency, valid_from, valid_to, rate = row
    end = f"date '{valid_to}'" if valid_to else "cast(null as date)"
    return f"({_quoted(str(currency))}, date '{valid_from}', {end}, {literal(float(str(rate)))})"


def _moment(day: date) -> str:
    return f"timestamp '{datetime(day.year, day.month, day.day, tzinfo=UTC):%Y-%m-%d %H:%M:%S} UTC'"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _comma(parts: Iterable[str], spaces: int) -> str:
    return f",\n{' ' * spaces}".join(parts)
