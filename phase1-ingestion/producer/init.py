"""The init service: topics and schemas exist before anybody sends the first message."""

from producer.kafka import ensure_topics, wait_for_broker
from fraud_common.schema_registry import SCHEMA_FILES, Registry, subject_of
from producer.settings import Settings
from fraud_common.avro import load_schema


def run_init(settings: Settings) -> None:
    """Make what is missing; running it again changes nothing.

    Raises:
        UserError: broker or registry don't answer, or refuse.
    """
    schemas = {topic: load_schema(settings.schema_dir / file)[0] for topic, file in SCHEMA_FILES.items()}
    made = ensure_topics(wait_for_broker(settings), settings.kafka_replication)
    print(f"topics: {', '.join(made) + ' made' if made else 'all there'}")
    registry = Registry(settings.schema_registry_url)
    for topic, text in schemas.items():
        print(f"{subject_of(topic)}: schema id {registry.register(topic, text)}, BACKWARD compatible")
