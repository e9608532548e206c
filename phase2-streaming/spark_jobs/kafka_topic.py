"""What Kafka says about a topic: which one it is, and which of its messages are still there."""

from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from fraud_common.errors import UserError
from fraud_common.kafka import make_reader, offsets_of
from fraud_common.settings import KafkaSettings

# A broker that was killed reads its logs first; a batch waits for it.
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class TopicState:
    """A topic as it is now."""

    topic_id: str  # another one when the topic is deleted and created again
    available: dict[int, tuple[int, int]]  # partition -> its first offset, and the one after its last


class KafkaTopic:
    """A topic that is read from."""

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        """Nothing is asked yet."""
        self.name = name
        self._settings = settings
        self._admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})

    def topic_id(self) -> str:
        """The id that Kafka gave the topic when it was created.

        Raises:
            UserError: there is no such topic, or the broker does not answer.
        """
        try:
            futures = self._admin.describe_topics(TopicCollection([self.name]), request_timeout=_TIMEOUT_SECONDS)
            return str(futures[self.name].result().topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise UserError(
                    f"{self.name}: there is no such topic; create it: docker compose run --rm ingestion-init"
                ) from None
            raise UserError(f"{self.name}: {error.args[0].str()}; look at: docker compose logs kafka") from None

    def state(self) -> TopicState:
        """The topic's id, and the offsets that can be read.

        Raises:
            UserError: there is no such topic, or the broker does not answer.
        """
        topic_id = self.topic_id()
        reader: Consumer = make_reader(self._settings)
        try:
            partitions = reader.list_topics(self.name, timeout=_TIMEOUT_SECONDS).topics[self.name].partitions
            return TopicState(topic_id, {number: offsets_of(reader, self.name, number) for number in partitions})
        except KafkaException as error:
            raise UserError(f"{self.name}: {error.args[0].str()}; look at: docker compose logs kafka") from None
        finally:
            reader.close()
