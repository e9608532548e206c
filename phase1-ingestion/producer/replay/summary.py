"""What a file has and what the platform will do with it: said before anything is sent, and by itself with CHECK=1."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from producer.replay.fields import DAY_MS, DEFAULTS
from producer.replay.letters import explain
from producer.replay.rows import SENDABLE, Rows

# label_maturity_days of dbt_project.yml: a payment can be learned from when the newest is so much later.
_MATURITY_DAYS = 14
# TRAINING_MINIMUM_FRAUDS to learn from, and half as many to evaluate with.
_FRAUDS_NEEDED = 75
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_LISTED = 40


@dataclass(frozen=True)
class Refusal:
    """Rows that are refused for the same reason."""

    reason: str
    count: int
    first: int  # the number of the first such row, or of the line
    example: str


@dataclass(frozen=True)
class Summary:
    """Counts of a file's rows."""

    file: str
    rows: int
    sendable: int
    users: int = 0
    first: datetime | None = None
    newest: datetime | None = None
    labels: int = 0
    frauds: int = 0
    matured: int = 0
    matured_frauds: int = 0
    unknown_devices: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    ignored: tuple[str, ...] = ()

    @property
    def refused(self) -> int:
        """How many rows become dead letters."""
        return self.rows - self.sendable

    def lines(self) -> list[str]:
        """The summary for a person."""
        lines = [f"{self.file}: {self.rows:,} rows"]
        if self.first and self.newest:
            lines.append(
                f"  {self.sendable:,} payments of {self.users:,} users, {self.first:%Y-%m-%d %H:%M} to"
                f" {self.newest:%Y-%m-%d %H:%M} UTC"
            )
            lines.append(
                f"  labels: {self.labels:,}, of which {self.frauds:,} are fraud"
                f" ({self.frauds / self.labels:.2%} of the labels)"
                if self.labels
                else "  labels: none; for a model, map a column to is_fraud"
            )
        if self.unknown_devices:
            lines.append(f"  {self.unknown_devices:,} have a device type that is not known; they are sent as pos")
        if self.refused:
            lines.append(f"  {self.refused:,} rows are refused and become dead letters:")
            lines += [
                f"    {refusal.reason}: {refusal.count:,}, the first is {'line' if refusal.reason == 'line' else 'row'}"
                f" {refusal.first:,}: {refusal.example}"
                for refusal in self.refusals
            ]
        if self.absent:
            lines.append(f"  not in the file, default used: {', '.join(self.absent)}")
        if self.ignored:
            more = f" and {len(self.ignored) - _MAX_LISTED} more" if len(self.ignored) > _MAX_LISTED else ""
            lines.append(f"  columns that are not used: {', '.join(self.ignored[:_MAX_LISTED])}{more}")
        return lines

    def next_steps(self) -> list[str]:
        """What the platform does with these payments, and the commands."""
        if not self.sendable:
            return ["next: nothing to send; correct the map, and look again with CHECK=1"]
        lines = [
            f"matured (more than {_MATURITY_DAYS} days older than the newest): {self.matured:,} payments, of which"
            f" {self.matured_frauds:,} are labelled as fraud"
        ]
        if self.matured_frauds >= _FRAUDS_NEEDED:
            lines.append("a model can be trained. Next: make dbt-run, then make ml-train")
        elif not self.labels:
            lines.append("no model can be trained without labels (is_fraud); rules score meanwhile. Next: make dbt-run")
        elif not self.matured:
            lines.append(
                f"no model can be trained yet: payments mature {_MATURITY_DAYS} days later, and the file spans"
                f" {(self.newest or _EPOCH) - (self.first or _EPOCH)}. Next: make dbt-run, and send more"
            )
        else:
            lines.append(
                f"a model needs about {_FRAUDS_NEEDED} matured frauds; with fewer, lower TRAINING_MINIMUM_FRAUDS."
                " Next: make dbt-run, then make ml-train, which says what is missing"
            )
        return lines


def summarise(rows: Rows) -> Summary:
    """Count the rows of a file."""
    labelled = "is_fraud is not null" if "is_fraud" in rows.mapping.stored else "false"
    fraud = "is_fraud" if "is_fraud" in rows.mapping.stored else "false"
    ((sendable, first, newest, labels, frauds, devices),) = rows.ask(
        f"select count(*), min(event_time), max(event_time), count(*) filter ({labelled}), count(*) filter ({fraud}),"
        f" count(*) filter (device_unknown) from payments where {SENDABLE}"
    )
    counts = Summary(rows.name, rows.size, sendable, refusals=_refusals(rows), ignored=rows.mapping.ignored)
    absent = [f"{name}={value!r}" for name, value in DEFAULTS.items() if name not in rows.mapping.given]
    if not sendable:
        return counts
    ((users,),) = rows.ask(f"select count(*) from (select distinct user_id from payments where {SENDABLE})")
    matured_before = newest - _MATURITY_DAYS * DAY_MS
    ((matured, matured_frauds),) = rows.ask(
        f"select count(*), count(*) filter ({fraud}) from payments where {SENDABLE} and event_time < {matured_before}"
    )
    return Summary(
        file=rows.name,
        rows=rows.size,
        sendable=sendable,
        users=users,
        first=_EPOCH + timedelta(milliseconds=first),
        newest=_EPOCH + timedelta(milliseconds=newest),
        labels=labels,
        frauds=frauds,
        matured=matured,
        matured_frauds=matured_frauds,
        unknown_devices=devices,
        refusals=counts.refusals,
        absent=absent,
        ignored=rows.mapping.ignored,
    )


def _refusals(rows: Rows) -> list[Refusal]:
    """By the field that does not fit, or by the rule; a row that violates two rules counts for both."""
    counted = rows.ask(
        "select reason, count(*), min(number), arg_min(position, number) from"
        " (select number, position, case when bad is not null then [split_part(bad, ':', 1) ||"
        " case when bad like 'line:%' then '' else ' does not fit' end] else string_split(violated, ',') end as reasons"
        f" from payments where not ({SENDABLE})), unnest(reasons) as t(reason) group by reason"
        " order by count(*) desc, reason"
    )
    refusals = []
    for reason, count, number, position in counted:
        (row,) = rows.refused(position, position + 1)
        refusals.append(Refusal("row is incomplete" if reason == "line" else reason, count, number, explain(row)[1]))
    if rows.rejected:
        line, _, reason = rows.rejected[0]
        refusals.append(Refusal("line", len(rows.rejected), line, reason))
    return refusals
