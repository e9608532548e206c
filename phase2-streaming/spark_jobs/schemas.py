"""The schemas of a topic's messages, by the ids that the messages carry."""

from dataclasses import dataclass

from fraud_common.schema_registry import SchemaRegistry


@dataclass(frozen=True)
class Schemas:
    """All schemas that were ever registered for a topic."""

    by_id: dict[int, str]  # schema id -> Avro schema, JSON text
    latest: str  # the schema that all messages are read as


def schemas_of(registry: SchemaRegistry, topic: str) -> Schemas:
    """The schemas of the topic's values as of now.

    A schema is registered before the first message that uses it. So when this is called after the offsets of a batch
    are fixed, the result has every schema of the batch. While the registry does not answer, the batch waits: without
    schemas it would refuse every message.

    Raises:
        UserError: no schema is registered for the topic.
    """
    versions = registry.until_answered(lambda: registry.versions(topic))
    _, latest = versions[-1]
    return Schemas(dict(versions), latest)
