"""The topics of the platform, as `fraud_common.topics` defines them, on a broker that may have some of them."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from fraud_common.errors import UserError
from fraud_common.topics import TOPICS

_TIMESTAMPS, _CLEANUP = "message.timestamp.type", "cleanup.policy"


def create_missing_topics(admin: AdminClient, replication: int) -> list[str]:
    """Create the topics that are missing; return their names.

    Raises:
        UserError: the broker refuses, or an existing topic has another number of partitions: that number decides which
            partition a cardholder's payments are in, so it is never changed silently.
    """
    existing = admin.list_topics(timeout=10).topics
    for name, topic in TOPICS.items():
        if name in existing and len(existing[name].partitions) != topic.partitions:
            raise UserError(
                f"{name}: has {len(existing[name].partitions)} partitions, not {topic.partitions}; "
                "keys would move to other partitions: move its messages to a new topic first"
            )
    missing = [
        NewTopic(name, num_partitions=topic.partitions, replication_factor=replication, config=topic.config)
        for name, topic in TOPICS.items()
        if name not in existing
    ]
    for name, future in admin.create_topics(missing).items() if missing else ():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise UserError(f"{name}: the broker refuses to create it: {error.args[0].str()}") from None
    return [topic.topic for topic in missing]


def correct_topics(admin: AdminClient, created: list[str]) -> list[str]:
    """Correct settings of topics that an earlier release created: whose clock timestamps are of, and what is deleted.

    Messages that are there keep their timestamps. How long messages are kept is left as it is, unless a topic deleted
    none so far.

    Args:
        created: topics that are new and so as they must be; the broker may not know them yet.

    Returns:
        The topics and settings that were changed, as `topic: name=value`.

    Raises:
        UserError: the broker refuses.
    """
    earlier = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in TOPICS if name not in created]
    changed: list[str] = []
    try:
        for resource, answer in (admin.describe_configs(earlier) if earlier else {}).items():
            now = {name: entry.value for name, entry in answer.result().items()}
            changes = corrections(TOPICS[resource.name].config, now)
            if changes:
                entries = [
                    ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                    for name, value in changes.items()
                ]
                change = ConfigResource(ConfigResource.Type.TOPIC, resource.name, incremental_configs=entries)
                for done in admin.incremental_alter_configs([change]).values():
                    done.result()
                changed += [f"{resource.name}: {name}={value}" for name, value in changes.items()]
    except KafkaException as error:
        raise UserError(f"kafka: settings of topics can't be corrected: {error.args[0].str()}") from None
    return changed


def corrections(wanted: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What to change in a topic, given its settings as they are to be and as they are."""
    if _CLEANUP in wanted and set(wanted[_CLEANUP].split(",")) != set(now[_CLEANUP].split(",")):
        return dict(wanted)
    return {name: wanted[name] for name in (_TIMESTAMPS,) if name in wanted and wanted[name] != now[name]}
