"""How far behind a service is, asked of the broker every few seconds, also while the service waits for somebody."""

import threading
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

SECONDS = 5.0

Place = tuple[str, int]


def watch_lag(
    consumer: Consumer, positions: Mapping[Place, int], tell: Callable[[Place, int], None], stop: threading.Event
) -> threading.Thread:
    """Start a thread that tells the lag of every partition again and again.

    Args:
        positions: the next offset to be read, by topic and partition; the service moves it on.
        tell: takes topic and partition, and how many messages they are behind.
    """

    def watch() -> None:
        while not stop.wait(SECONDS):
            for place, position in list(positions.items()):
                try:
                    low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=5)
                except (KafkaException, RuntimeError):  # away, or closed
                    break
                if place in positions:
                    tell(place, max(0, high - max(position, low)))

    thread = threading.Thread(target=watch, name="lag", daemon=True)
    thread.start()
    return thread
