"""How far behind the scorer is, asked of the broker every few seconds, also while the scorer waits for the API."""

import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition

from serving.scorer import metrics

SECONDS = 5.0


def watch_lag(consumer: Consumer, topic: str, positions: dict[int, int], stop: threading.Event) -> threading.Thread:
    """Start a thread that keeps the gauge.

    Args:
        positions: the next offset to be scored, by partition; the scorer moves it on.
    """

    def watch() -> None:
        while not stop.wait(SECONDS):
            for partition, position in list(positions.items()):
                try:
                    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
                except (KafkaException, RuntimeError):  # away, or closed
                    break
                if partition in positions:
                    metrics.LAG.labels(partition).set(max(0, high - max(position, low)))

    thread = threading.Thread(target=watch, name="lag", daemon=True)
    thread.start()
    return thread
