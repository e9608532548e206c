"""The schemas of a topic, by the ids that its messages carry."""

from dataclasses import dataclass

from confluent_kafka.schema_registry import SchemaRegistryClient


@dataclass(frozen=True)
class Schemas:
    """All schemas that were ever registered for a topic."""

    by_id: dict[int, str]  # schema id -> Avro schema, JSON text
    latest: str  # what all of them are read as


class SchemaSource:
    """Asks the registry, and remembers what can't change: the schema of an id."""

    def __init__(self, url: str) -> None:
        self._client = SchemaRegistryClient({"url": url, "timeout": 10, "max.retries": 10})
        self._versions: dict[tuple[str, int], tuple[int, str]] = {}

    def schemas(self, topic: str) -> Schemas:
        """The schemas of the topic's values as of now.

        A schema is registered before the first message that has it. So asked after the offsets of a batch are fixed, it
        has all that the batch needs.
        """
        subject = f"{topic}-value"
        versions = sorted(self._client.get_versions(subject))
        for version in versions:
            if (subject, version) not in self._versions:
                registered = self._client.get_version(subject, version)
                # The registry's answer always has both; the client's types don't say so.
                self._versions[subject, version] = (int(registered.schema_id or 0), str(registered.schema.schema_str))
        found = [self._versions[subject, version] for version in versions]
        return Schemas(dict(found), found[-1][1])
