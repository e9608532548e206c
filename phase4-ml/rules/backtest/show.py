"""The report of a backtest as text, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

EXAMPLE_COLUMNS = ("event_time", "transaction_id", "user_id", "amount", "currency", "fraud_probability")


def show(report: Mapping[str, Any]) -> str:
    """The whole report, at most about 120 characters wide."""
    return "\n".join(_lines(report))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    rule, period, payments = report["rule"], report["period"], report["payments"]
    version = f", version {rule['version']}" if rule["version"] else ""
    yield f"{rule['name']}{version}: {_answer(rule)}"
    yield f"  when {rule['when']}"
    if report["compare_to"]:
        other = report["compare_to"]
        yield f"  instead of {other['name']}, version {other['version'] or '-'}: when {other['when']}"
    yield f"  beside the model and {len(report['others'])} other live rules"
    yield (
        f"{period['from']} to {period['to']}: {payments['total']:,} payments, {payments['from_predictions']:,} as"
        f" serving saw them, {payments['from_history']:,} from history; {payments['frauds']:,} known frauds"
    )
    yield ""
    yield f"  {'':<28}{'payments':>12}{'a day':>12}{'amount':>16}{'frauds':>10}{'legitimate':>12}{'unknown':>10}"
    for title in ("hits", "marginal"):
        group = report[title]
        yield (
            f"  {title:<28}{group['payments']:>12,}{group['per_day']:>12,.1f}{group['amount']:>16,.0f}"
            f"{group['frauds']:>10,}{group['legitimate']:>12,}{group['unknown']:>10,}"
        )
    yield f"  marginal: {report['marginal']['changes']}"
    yield ""
    yield _line("precision", _interval(report["precision"]), f"expected {_percent(report['expected_precision'])}")
    yield _line("precision of marginal hits", _interval(report["marginal_precision"]))
    yield _line("recall", _interval(report["recall"]), f"of the amount {_percent(report['recall_of_amount'])}")
    per_1000 = report["false_positives_per_1000"]
    yield _line("false positives", "-" if per_1000 is None else f"{per_1000:.2f} in 1,000 payments")
    hours = report["marginal"]["queue_hours_per_day"]
    yield _line("queue", f"{report['marginal']['newly_queued']:,} more cases, {hours:.1f} hours a day")
    value = report["net_value"]
    yield _line(
        "net value", f"{value['value']:,.0f}", f"saved {value['saved']:,.0f}, cost {value['cost']:,.0f}, in the period"
    )
    yield from _apart(report)
    yield from _change(report["change"])
    yield from _curve(report["curve"])
    for kind, title in (
        ("frauds", "hits that are frauds"),
        ("legitimate", "hits that are legitimate"),
        ("missed", "frauds that nothing acts upon"),
    ):
        yield from _examples(title, report["examples"][kind])
    if report["notes"]:
        yield ""
        yield from (f"note: {note}" for note in report["notes"])


def _answer(rule: Mapping[str, Any]) -> str:
    return f"{rule['lane']}, {rule['answer']}{' and queue' if rule['queue'] else ''}"


def _line(title: str, value: str, more: str = "") -> str:
    return f"  {title:<28}{value}{f' ({more})' if more else ''}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _interval(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return "- (no matured payment)"
    return f"{_percent(rate['value'])}, {_percent(rate['low'])} to {_percent(rate['high'])} of {rate['of']:,}"


def _apart(report: Mapping[str, Any]) -> Iterator[str]:
    for title in ("declined", "held_out"):
        bucket = report[title]
        if bucket["payments"]:
            words = (
                f"{bucket['payments']:,} payments, {bucket['hits']:,} hits, precision {_interval(bucket['precision'])}"
            )
            yield _line(title.replace("_", " "), words)
    recorded = report["recorded"]
    if recorded["hits"]:
        yield _line(
            "recorded when scored", f"{recorded['hits']:,} hits, of which {recorded['hits_here']:,} are hits here"
        )


def _change(change: Mapping[str, Any] | None) -> Iterator[str]:
    if not change:
        return
    yield ""
    yield "  against what it changes"
    for title in ("both", "added", "dropped"):
        part = change[title]
        yield _line(
            title, f"{part['payments']:,} payments, {part['frauds']:,} frauds, precision {_interval(part['precision'])}"
        )


def _curve(curve: Mapping[str, Any] | None) -> Iterator[str]:
    if not curve:
        return
    yield ""
    columns = ("hits a day", "marginal", "frauds", "precision", "recall", "net value")
    yield f"  {curve['name']:<28}{''.join(f'{column:>12}' for column in columns)}"
    for point in curve["points"]:
        mark = " (now)" if point["is_current"] else ""
        yield (
            f"  {f'{point["threshold"]:g}{mark}':<28}{point['hits_per_day']:>12,.1f}{point['marginal_hits']:>12,}"
            f"{point['frauds']:>12,}{_percent(point['precision']['value']):>12}{_percent(point['recall']):>12}"
            f"{point['net_value']:>12,.0f}"
        )


def _fact(value: Any) -> str:
    """As a rule would write it."""
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _examples(title: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"  {title}, {len(rows)} drawn by chance"
    others = [name for name in rows[0] if name not in (*EXAMPLE_COLUMNS, "merchant_id", "risk_tier")]
    for row in rows:
        score = "no score" if row["fraud_probability"] is None else f"{row['fraud_probability']:.4f}"
        facts = " ".join(f"{name}={_fact(row[name])}" for name in others)
        yield (
            f"    {row['event_time']:.19} {row['transaction_id']} {row['user_id']} {row['amount']:,.2f}"
            f" {row['currency'] or '-'} {score} {facts}".rstrip()
        )
