"""What fresh features are worth: one model on the same live payments, with the stream and with snapshots only.

Runs beside a live stack (make feature-quality). Looks every payment up when it arrives, as the API does, scores it with
each kind of features, and waits for the labels; prints average precision by scenario as a Markdown table.

The simulated clock runs fast: fifteen minutes between two snapshots are two days of event time. So there are two kinds
of snapshot: the one in Redis, and one as of the last quarter of an hour of event time, as a stack in real time has it.
"""

import asyncio
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition
from feature_store.layout import parties_of, unpack_user
from feature_store.records import RuleViolation, to_label, to_payment
from feature_stream.settings import StreamSettings
from features import EPOCH, MerchantFeatures, Novelty, Parties, Payment, UserFeatures
from fraud_common.avro import Decoder
from fraud_common.errors import SerializationError
from fraud_common.kafka import make_group_consumer, readable
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.settings import load_settings
from serving.feature_client import FeatureClient, Found, Subjects
from serving.model_store import Model, ModelStore
from serving.predictor import UNKNOWN_USER, ChosenUser, category_risk, choose_device, choose_merchant, choose_user
from serving.settings import Settings
from sklearn.metrics import average_precision_score
from tqdm import tqdm

KINDS = ("stream", "snapshot of the last quarter of an hour", "snapshot in Redis")
QUARTER = timedelta(minutes=15)


class Watched:
    """The payments that were scored, and what labels say of them."""

    def __init__(self) -> None:
        self.scores: dict[str, tuple[float, ...]] = {}
        self.labels: dict[str, dict[str, Any]] = {}
        self.sources: dict[str, int] = defaultdict(int)

    def add_label(self, record: dict[str, Any]) -> None:
        """Take a label; of several on a payment the newest counts."""
        known = self.labels.get(record["transaction_id"])
        if known is None or known["reported_at"] <= record["reported_at"]:
            self.labels[record["transaction_id"]] = record

    def fraud_type(self, transaction_id: str) -> str:
        """The type of a known fraud; empty for other payments."""
        label = self.labels.get(transaction_id)
        return (label["fraud_type"] or "unknown") if label and label["is_fraud"] else ""


def users_of(found: Found, parties: Parties, fresh: ChosenUser, as_of: datetime) -> tuple[ChosenUser, ...]:
    """What is known of the user, of each kind."""
    quarter = EPOCH + (as_of - EPOCH) // QUARTER * QUARTER
    events = unpack_user(found.events, found.labels)
    snapshot = UserFeatures.from_json(found.user) if found.user else UNKNOWN_USER
    return (
        fresh,
        ChosenUser(UserFeatures.from_events(events, quarter), "quarter", Novelty.from_events(events, parties, quarter)),
        ChosenUser(snapshot, "batch"),
    )


def score(model: Model, watched: Watched, records: list[dict[str, Any]], found: list[Found]) -> None:
    """Each payment with each kind of features."""
    rows = []
    now = datetime.now(UTC)
    for record, known in zip(records, found, strict=True):
        as_of = record["event_time"]
        parties = parties_of(record["merchant_id"], record["country"], record["device_id"])
        payment = Payment(
            float(record["amount"]),
            record["is_international"],
            as_of,
            record["device_type"],
            record["currency"],
            record["country"],
            category_risk(record["merchant_category"], known.stream.category_risks),
        )
        batch_merchant = MerchantFeatures.from_json(known.merchant) if known.merchant else MerchantFeatures()
        merchants = (choose_merchant(known, as_of, now).features,) * 2 + (batch_merchant,)
        fresh = choose_user(known, parties, as_of, known.stream.complete.of_user(record["user_id"]), now)
        device = choose_device(known, as_of, now).features
        rows += [
            user.features.to_array(payment, merchant, user.novelty, device)
            for user, merchant in zip(users_of(known, parties, fresh, as_of), merchants, strict=True)
        ]
        watched.sources[fresh.source] += 1
    scores = np.array(model.probabilities(np.stack(rows))).reshape(-1, len(KINDS))
    for record, values in zip(records, scores.tolist(), strict=True):
        # The first time counts: later the stream knows the payment itself.
        watched.scores.setdefault(record["transaction_id"], tuple(values))


def make_consumer(settings: StreamSettings) -> Consumer:
    """Reads both topics from now on."""
    consumer = make_group_consumer(settings, "feature-quality")
    ends = []
    for topic in (settings.transactions_topic, settings.labels_topic):
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends += [TopicPartition(topic, partition, OFFSET_END) for partition in partitions]
    consumer.assign(ends)
    return consumer


def decoded(decoder: Decoder, messages: list[Message], topic: str) -> list[dict[str, Any]]:
    """The records of one topic that Bronze takes."""
    records = []
    for message in messages:
        if message.topic() != topic:
            continue
        try:
            record = decoder.decode(message.value())
            _, arrived_ms = message.timestamp()
            (to_label if "reported_at" in record else to_payment)(record, arrived_ms)
        except (SerializationError, RuleViolation):
            continue
        records.append(record)
    return records


async def watch(settings: StreamSettings, api: Settings, minutes: float, label_minutes: float) -> Watched:
    """Score the payments of some minutes, and collect labels for some more."""
    models = ModelStore(api)
    following = asyncio.create_task(models.follow())
    while not isinstance(models.model, Model):
        await asyncio.sleep(0.2)
    following.cancel()
    features = FeatureClient(api)
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    consumer = make_consumer(settings)
    watched = Watched()
    start = time.monotonic()
    total = round((minutes + label_minutes) * 60)
    with tqdm(total=total, unit="s", desc="payments, then labels", file=sys.stderr, disable=None) as progress:
        while (passed := time.monotonic() - start) < total:
            messages = readable(consumer.consume(500, 0.05))
            for record in decoded(decoder, messages, settings.labels_topic):
                watched.add_label(record)
            payments = decoded(decoder, messages, settings.transactions_topic)
            if payments and passed < minutes * 60:
                found = await features.look_up(
                    [Subjects(each["user_id"], each["merchant_id"], each["device_id"] or "") for each in payments]
                )
                score(models.model, watched, payments, found)
            progress.update(round(passed) - progress.n)
    consumer.close()
    await features.close()
    await models.close()
    return watched


def table(watched: Watched) -> str:
    """Average precision of each kind, overall and for the frauds of each scenario among all legitimate payments."""
    ids = list(watched.scores)
    scores = np.array([watched.scores[each] for each in ids])
    types = np.array([watched.fraud_type(each) for each in ids])
    lines = [
        f"{len(ids)} live payments, {(types != '').sum()} of them known as frauds so far; features from "
        + ", ".join(f"{source}: {count}" for source, count in sorted(watched.sources.items())),
        "",
        "| frauds | number | " + " | ".join(f"average precision, {kind}" for kind in KINDS) + " |",
        "|---|---|" + "---|" * len(KINDS),
    ]
    for name in ["all", *sorted(set(types) - {""})]:
        rows = (types == "") | (types == name) if name != "all" else np.ones(len(ids), dtype=bool)
        is_fraud = types[rows] != ""
        values = [average_precision_score(is_fraud, scores[rows, kind]) for kind in range(len(KINDS))]
        lines.append(f"| {name} | {is_fraud.sum()} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    return "\n".join(lines)


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long payments are scored.")] = 15,
    label_minutes: Annotated[float, typer.Option(min=0.1, help="How long labels are waited for after that.")] = 60,
) -> None:
    """Measure on a live stack, and print the table."""
    with TemporaryDirectory() as folder:
        api = load_settings(Settings, state_dir=folder, redis_deadline_ms=5_000)
        watched = asyncio.run(watch(load_settings(StreamSettings), api, minutes, label_minutes))
    if not any(label["is_fraud"] for label in watched.labels.values()):
        sys.exit("error: no fraud became known; wait longer (--label-minutes)")
    print(table(watched))


if __name__ == "__main__":
    typer.run(main)
