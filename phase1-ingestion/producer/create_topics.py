"""The topics of the platform, as `fraud_common.topics` defines them, on a broker that may have some of them."""

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from fraud_common.errors import UserError
from fraud_common.topics import TOPICS

_TIMESTAMPS = "message.timestamp.type"


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


def correct_timestamps(admin: AdminClient, created: list[str]) -> list[str]:
    """Let the broker's clock set the timestamps in topics that an earlier release created; return their names.

    Messages that are there keep theirs.

    Args:
        created: topics that are new and so as they must be; the broker may not know them yet.

    Raises:
        UserError: the broker refuses.
    """
    earlier = {name: topic for name, topic in TOPICS.items() if name not in created}
    wanted = {name: value for name, topic in earlier.items() if (value := topic.config.get(_TIMESTAMPS))}
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in wanted]
    changed: list[str] = []
    try:
        for resource, answer in (admin.describe_configs(resources) if resources else {}).items():
            if answer.result()[_TIMESTAMPS].value != wanted[resource.name]:
                entry = ConfigEntry(_TIMESTAMPS, wanted[resource.name], incremental_operation=AlterConfigOpType.SET)
                change = ConfigResource(ConfigResource.Type.TOPIC, resource.name, incremental_configs=[entry])
                for done in admin.incremental_alter_configs([change]).values():
                    done.result()
                changed.append(resource.name)
    except KafkaException as error:
        raise UserError(f"kafka: {_TIMESTAMPS} can't be set: {error.args[0].str()}") from None
    return changed
