"""Which dead letters a person asks for, and what sending them back would do. No I/O."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from fraud_common.dead_letters import DeadLetter, Position
from fraud_common.errors import UserError
from fraud_common.topics import SCHEMA_FILES

from producer.dlq.kinds import KindCounts
from producer.dlq.positions import PositionSet, parse_coordinates

# How many of those that are given up are named.
_EXAMPLES = 3


@dataclass(frozen=True)
class Selection:
    """The dead letters named by offset, and those of a stage and for a reason."""

    stages: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    offsets: frozenset[Position] = frozenset()
    every: bool = False
    force: bool = False  # send also what has failed too often

    def includes(self, letter: DeadLetter) -> bool:
        """Whether the person asks for this one."""
        return letter.position in self.offsets or (
            bool(self.every or self.stages or self.reasons)
            and (not self.stages or letter.stage in self.stages)
            and (not self.reasons or not self.reasons.isdisjoint(letter.reasons))
        )


def parse_selection(
    *, stage: str = "", reason: str = "", offset: str = "", every: bool = False, force: bool = False
) -> Selection:
    """The selection that a person has typed; each text may name several, divided by commas.

    Raises:
        UserError: nothing is chosen, or an offset is not PARTITION-OFFSET.
    """
    selection = Selection(
        stages=frozenset(_parts(stage)),
        reasons=frozenset(_parts(reason)),
        offsets=frozenset(_parse_offset(part) for part in _parts(offset)),
        every=every,
        force=force,
    )
    if not (selection.stages or selection.reasons or selection.offsets or every):
        raise UserError(
            "say which: REASON=…, STAGE=…, OFFSET=PARTITION-OFFSET, or ALL=1 (make dlq-show lists all of these)"
        )
    if force and not selection.offsets:
        raise UserError("FORCE=1 needs OFFSET=…: only dead letters that are named are sent after too many attempts")
    return selection


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parse_offset(text: str) -> Position:
    position = parse_coordinates(text)
    if position is None:
        raise UserError(f"OFFSET={text}: must be PARTITION-OFFSET as make dlq-show prints it, for example 2-117")
    return position


class Plan:
    """What sending the selected dead letters back would do; it grows with their number by bits only."""

    def __init__(self, selection: Selection, max_attempts: int) -> None:
        self._selection = selection
        self._max_attempts = max_attempts
        self.sources = PositionSet()  # the messages to be sent
        self._by_target: Counter[tuple[str, str]] = Counter()  # topic and stage
        self._without_topic = 0
        self._given_up = 0
        self._given_up_examples: list[str] = []
        # What there is: all of it for the person's mistakes, and what of it was asked for.
        self._stages: KindCounts[str] = KindCounts()
        self._reasons: KindCounts[str] = KindCounts()
        self._found_stages: set[str] = set()
        self._found_reasons: set[str] = set()
        self._found_offsets: set[Position] = set()

    def add(self, letter: DeadLetter) -> None:
        """Take one more of the dead letters that were not sent back yet into account."""
        self._note_what_there_is(letter)
        if not self._selection.includes(letter):
            return
        if letter.topic not in SCHEMA_FILES:
            self._without_topic += 1
        elif letter.attempts >= self._max_attempts and not self._is_forced(letter):
            self._given_up += 1
            if len(self._given_up_examples) < _EXAMPLES:
                self._given_up_examples.append(letter.coordinates)
        elif letter.source not in self.sources:
            # Bronze and the scorer may both have refused the same message, and Bronze twice after a crash: it is sent
            # once.
            self.sources.add(letter.source)
            self._by_target[letter.topic, letter.stage] += 1

    def check(self) -> None:
        """After all were added: everything that the person named is there.

        Raises:
            UserError: there is no such stage, reason or offset.
        """
        for name, missing_ones, counts in (
            ("STAGE", self._selection.stages - self._found_stages, self._stages),
            ("REASON", self._selection.reasons - self._found_reasons, self._reasons),
        ):
            for missing in sorted(missing_ones):
                there = ", ".join(sorted(kind for kind, _ in counts.most_common())) or "none"
                raise UserError(f"{name}={missing}: no dead letter has it; there are {there}")
        for position in sorted(self._selection.offsets - self._found_offsets):
            raise UserError(
                f"OFFSET={position.partition}-{position.offset}: no such dead letter, or it was sent back already"
            )

    def lines(self, *, go: bool) -> Iterator[str]:
        """What is about to be done, or would be, for a person."""
        for (topic, stage), count in self._by_target.items():
            yield f"{count:,} from stage {stage}: {'sending' if go else 'would send'} back to {topic}"
        if self._without_topic:
            yield f"{self._without_topic:,} skipped: they name no topic of this platform"
        if self._given_up:
            first, *_ = self._given_up_examples
            more = ", …" if self._given_up > len(self._given_up_examples) else ""
            yield (
                f"{self._given_up:,} skipped: they failed {self._max_attempts} times or more (DLQ_MAX_ATTEMPTS): "
                f"{', '.join(self._given_up_examples)}{more}; to send one all the same: OFFSET={first} FORCE=1"
            )

    def _is_forced(self, letter: DeadLetter) -> bool:
        return self._selection.force and letter.position in self._selection.offsets

    def _note_what_there_is(self, letter: DeadLetter) -> None:
        self._stages.add(letter.stage)
        for reason in letter.reasons:
            self._reasons.add(reason)
        self._found_stages |= self._selection.stages & {letter.stage}
        self._found_reasons |= self._selection.reasons.intersection(letter.reasons)
        self._found_offsets |= self._selection.offsets & {letter.position}
