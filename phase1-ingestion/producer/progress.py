"""The progress bar of the backfill, drawn from the producer's metrics."""

import sys
import time

import httpx2
from fraud_common.errors import UserError
from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

BAR = "{desc}: {percentage:3.0f}%|{bar}| day {n:.0f} of {total:.0f} [{elapsed}<{remaining}{postfix}]"


def read_gauges(url: str) -> dict[str, float]:
    """All samples without labels, by name."""
    text = httpx2.get(url, timeout=5).text
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples if not s.labels}


def follow_backfill(url: str) -> None:
    """Draw the bar until the last day of history is sent.

    Raises:
        UserError: the producer does not answer.
    """
    bar: tqdm | None = None
    while True:
        try:
            gauges = read_gauges(url)
        except httpx2.HTTPError:
            raise UserError(f"{url}: the producer does not answer; look at: docker compose logs producer") from None
        total, sent = gauges.get("producer_backfill_days", 0), gauges.get("producer_backfill_days_sent", 0)
        if total == 0 or (bar is None and sent >= total):  # nothing to send, or all sent before
            return
        bar = bar or tqdm(
            total=total,
            unit="d",
            desc="backfill",
            bar_format=BAR,
            # In a log file each drawing is a line of its own.
            mininterval=0.5 if sys.stderr.isatty() else 5.0,
        )
        bar.set_postfix_str(f"{gauges.get('producer_messages_delivered_total', 0):,.0f} messages", refresh=False)
        bar.update(sent - bar.n)
        if sent >= total:
            bar.close()
            return
        time.sleep(0.5)
