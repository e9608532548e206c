"""Kafka when no broker answers."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from fraud_common.errors import UserError
from fraud_common.kafka import kafka_errors, wait_for_broker
from fraud_common.settings import KafkaSettings


def test_a_closed_port_is_one_line_with_the_address_and_the_next_step() -> None:
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        wait_for_broker(KafkaSettings(kafka_bootstrap_servers="localhost:1", connect_timeout_seconds=0.5))
    assert str(error.value).startswith("KAFKA_BOOTSTRAP_SERVERS=localhost:1: no broker answers (")
    assert str(error.value).endswith("; correct the address, or start it: docker compose up -d kafka")
    assert time.monotonic() - started < 10


def test_errors_of_the_client_are_one_line() -> None:
    with (
        pytest.raises(UserError, match=r"^kafka: Unknown partition; look at: docker compose logs kafka$"),
        kafka_errors(),
    ):
        raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION, "Unknown partition"))
