"""The init service: it creates topics and registers schemas before any other service sends a message."""

from functools import partial

from fraud_common.avro import load_schema
from fraud_common.kafka import wait_for_broker
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import SCHEMA_FILES, subject_of

from producer.create_topics import correct_topics, create_missing_topics
from producer.settings import Settings


def run_init(settings: Settings) -> None:
    """Create what is missing; running it again changes nothing.

    Raises:
        UserError: the broker or the registry does not answer, or refuses.
    """
    schemas = {topic: load_schema(settings.schema_dir / file)[0] for topic, file in SCHEMA_FILES.items()}
    admin = wait_for_broker(settings)
    created = create_missing_topics(admin, settings.kafka_replication)
    print(f"topics: {'created ' + ', '.join(created) if created else 'all exist'}")
    if changed := correct_topics(admin, created):
        print(f"topics: corrected {', '.join(changed)}")
    registry = SchemaRegistry(settings.schema_registry_url)
    for topic, text in schemas.items():
        schema_id = registry.within(settings.connect_timeout_seconds, partial(registry.register, topic, text))
        print(f"{subject_of(topic)}: schema id {schema_id}, FULL_TRANSITIVE compatible")
