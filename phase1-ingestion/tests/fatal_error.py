"""A fatal error of the idempotent producer, at will, as librdkafka's own tests raise it."""

import ctypes
from pathlib import Path

import confluent_kafka
from confluent_kafka import Producer

OUT_OF_ORDER = 45


def make_fatal(client: Producer) -> None:
    """Let librdkafka raise the error that a broken idempotence guarantee raises."""
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    (library,) = folder.glob("librdkafka-*")
    raise_fatal = ctypes.CDLL(str(library)).rd_kafka_test_fatal_error
    raise_fatal.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    # The client's handle is the first field of the Python object.
    handle = ctypes.c_void_p.from_address(id(client) + object.__basicsize__)
    assert raise_fatal(handle, OUT_OF_ORDER, b"sequence lost") == 0
