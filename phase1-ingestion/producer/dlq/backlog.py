"""The dead letters that were not sent back yet: what both tools start from."""

from dataclasses import dataclass

from fraud_common.dead_letters import FAILED_AT, DeadLetter, read_dead_letters
from fraud_common.kafka import make_reader, read_topic, require_topics, wait_for_broker
from fraud_common.topics import DEAD_LETTERS, REDRIVEN

from producer.settings import Settings


@dataclass(frozen=True)
class Backlog:
    """The dead letter topic as it is now."""

    letters: list[DeadLetter]  # not sent back yet, oldest first
    sent_back: int  # how many others were


def read_backlog(settings: Settings) -> Backlog:
    """Read the dead letters, and which of them were sent back.

    Raises:
        UserError: the broker does not answer, or a topic is missing.
    """
    require_topics(wait_for_broker(settings), DEAD_LETTERS, REDRIVEN)
    client = make_reader(settings)
    redriven = {(message.key() or b"").decode() for message in read_topic(client, REDRIVEN)}
    every = list(read_dead_letters(client, DEAD_LETTERS))
    client.close()
    waiting = [letter for letter in every if letter.coordinates not in redriven]
    return Backlog(
        letters=sorted(waiting, key=lambda letter: letter.headers.get(FAILED_AT, "")),
        sent_back=len(every) - len(waiting),
    )
