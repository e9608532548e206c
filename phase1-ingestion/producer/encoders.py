"""The encoders of the two topics that this phase writes."""

from fraud_common.avro import Encoder, load_encoder
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, TRANSACTIONS

from producer.settings import Settings


def load_encoders(settings: Settings, registry: SchemaRegistry) -> dict[str, Encoder]:
    """The encoder of each topic.

    Raises:
        UserError: a schema file can't be read, its schema is not registered, or the registry does not answer.
    """
    return {topic: load_encoder(registry, settings.schema_dir, topic) for topic in (TRANSACTIONS, LABELS)}
