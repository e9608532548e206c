"""What the stream keeps in Redis: every user's payments of the last 30 days, verdicts, and merchants' totals by day.

Upstream are the feature stream, the rebuild from Bronze and the repair; downstream is the feature client of the API.
Writing the same record twice changes nothing, in whatever order records come.

    user_events:{user_id}     sorted set, all scores 0, so in the order of its members' bytes, which is that of time:
                              one member of 24 bytes for each payment, three big-endian words:
                                key      event time in ms (42 bits), transaction_id as a number (21 bits)
                                payment  is_international (1 bit), country as a number (16), amount in cents (40)
                                parties  merchant as a number (40 bits), device as a number (23)
    user_verdicts:{user_id}   sorted set like it: 16 bytes for each label:
                                key      that of the payment, whose time a label tells
                                verdict  reported_at in ms (42 bits), is_fraud (1 bit)
    merchant_days:{number}    hash: "<day>" → payments of that day; "<day>:<known_on>" → how many more of them are known
                              as frauds from 00:00 UTC of the day known_on on. Days since 1970.
    feature_stream:positions  hash: "<topic>:<partition>" → offset of the first message that is not in here
    feature_stream:clock      the newest event time in ms: for which moment all this is complete

Names become numbers by a hash. Of two merchants in 10,000 the chance to share a number is 1 in 20,000; they would share
their totals. Within one user, equal numbers of different merchants are out of the question.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import redis
from features import DAY_MS, FraudChange, UserEvents
from redis.client import Pipeline
from redis.exceptions import WatchError

USER_EVENTS = "user_events:{}"
USER_VERDICTS = "user_verdicts:{}"
MERCHANT_DAYS = "merchant_days:{}"
POSITIONS_KEY = "feature_stream:positions"
CLOCK_KEY = "feature_stream:clock"

# Two more than the longest window, for payments that come a day late.
KEEP_DAYS = 32
# Of the wall clock: a user who does not pay for so long leaves; one who pays is pruned at every payment.
EXPIRY_SECONDS = 35 * 86_400

# A user's new payments, and what is too old or too many goes: one command instead of four, for each user of a batch.
_ADD = """
local key, horizon, cap, expiry = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
for position = 4, #ARGV do redis.call('ZADD', key, 0, ARGV[position]) end
redis.call('ZREMRANGEBYLEX', key, '-', horizon)
redis.call('EXPIRE', key, expiry)
return redis.call('ZREMRANGEBYRANK', key, 0, -cap - 1)
"""

# How far all this is complete, unless places that stood there before are gone: then Redis has been emptied since.
_REACH = """
local positions, clock, newest, held = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
for at = 3, held + 2 do if redis.call('HEXISTS', positions, ARGV[at]) == 0 then return 0 end end
redis.call('SET', clock, newest)
redis.call('HSET', positions, unpack(ARGV, held + 3))
return 1
"""

_EVENT = struct.Struct(">QQQ")
_VERDICT = struct.Struct(">QQ")
_KEY = struct.Struct(">Q")
_ID_BITS, _CENTS_BITS, _COUNTRY_BITS, _DEVICE_BITS = 21, 40, 16, 23


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """A payment as the features see it; the time is in milliseconds since 1970 UTC."""

    transaction_id: str
    user_id: str
    merchant_id: str
    event_time: int
    cents: int
    country: str
    device_id: str
    is_international: bool

    @property
    def key(self) -> int:
        """What tells it from the user's other payments."""
        return payment_key(self.event_time, self.transaction_id)

    def pack(self) -> bytes:
        """The member of the user's sorted set."""
        country = name_number(self.country, _COUNTRY_BITS)
        return _EVENT.pack(
            self.key,
            (self.is_international << _COUNTRY_BITS | country) << _CENTS_BITS | self.cents,
            merchant_number(self.merchant_id) << _DEVICE_BITS | name_number(self.device_id, _DEVICE_BITS),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A label as it was reported; times are in milliseconds since 1970 UTC."""

    transaction_id: str
    user_id: str
    event_time: int
    reported_at: int
    is_fraud: bool

    @property
    def key(self) -> int:
        """That of its payment."""
        return payment_key(self.event_time, self.transaction_id)

    def pack(self) -> bytes:
        """The member of the user's sorted set."""
        return _VERDICT.pack(self.key, self.reported_at << 1 | self.is_fraud)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch has changed."""

    payments: int = 0
    verdicts: int = 0
    # Payments too old to be in any window.
    too_old: int = 0
    # Payments that went because their user has more than the cap.
    capped: dict[str, int] = field(default_factory=dict)
    # Redis has been emptied since its positions were last seen: these records are in it, and what came before is not.
    emptied: bool = False


@lru_cache(maxsize=100_000)
def name_number(name: str, bits: int) -> int:
    """The number that stands for a name, the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> (64 - bits)


def merchant_number(merchant_id: str) -> int:
    """The number that stands for a merchant, in a user's payments and in the key of its totals."""
    return name_number(merchant_id, 40)


def payment_key(event_time: int, transaction_id: str) -> int:
    """Time first, so that keys have the order of time."""
    digest = blake2b(transaction_id.encode(), digest_size=4).digest()
    return event_time << _ID_BITS | int.from_bytes(digest) >> (32 - _ID_BITS)


def unpack_user(events: Sequence[bytes], verdicts: Sequence[bytes]) -> UserEvents:
    """The members of a user's two sorted sets as arrays.

    Raises:
        ValueError: members of another length.
    """
    key, payment, parties = _words(events, 3)
    verdict_key, verdict = _words(verdicts, 2)
    return UserEvents(
        event_time=key >> _ID_BITS,
        cents=payment & (1 << _CENTS_BITS) - 1,
        is_international=payment >> (_CENTS_BITS + _COUNTRY_BITS),
        merchant=parties >> _DEVICE_BITS,
        country=(payment >> _CENTS_BITS) & (1 << _COUNTRY_BITS) - 1,
        device=parties & (1 << _DEVICE_BITS) - 1,
        verdict_payment=verdict_key,
        verdict_reported_at=verdict >> 1,
        verdict_is_fraud=verdict & 1,
    )


def unpack_merchant(days: Mapping[bytes, bytes]) -> tuple[dict[int, int], list[FraudChange]]:
    """A merchant's hash as what `MerchantFeatures.from_days` takes: payments by day, and frauds."""
    payments: dict[int, int] = {}
    frauds: list[FraudChange] = []
    for name, number in days.items():
        day, _, known_on = name.partition(b":")
        if known_on:
            frauds.append(FraudChange(int(day), int(known_on), int(number)))
        else:
            payments[int(day)] = int(number)
    return payments, frauds


def positions(store: redis.Redis) -> dict[tuple[str, int], int]:
    """The offset of the first message that is not in Redis, by topic and partition."""
    found: dict[tuple[str, int], int] = {}
    raw: dict[bytes, bytes] = store.hgetall(POSITIONS_KEY)
    for place, offset in raw.items():
        topic, _, partition = place.decode().rpartition(":")
        found[topic, int(partition)] = int(offset)
    return found


def clock(store: redis.Redis) -> int:
    """The newest event time in milliseconds; 0 where there is none."""
    return int(store.get(CLOCK_KEY) or 0)


def apply(
    store: redis.Redis,
    payments: Sequence[PaymentEvent],
    verdicts: Sequence[Verdict],
    reached: Mapping[tuple[str, int], int],
    cap: int,
    merchants: bool = True,
    held: Collection[tuple[str, int]] = (),
) -> Applied:
    """Write some records and how far the topics are in: all of it or nothing.

    One question for what is there already, then one transaction; again where somebody else wrote one of the users
    in between.

    Args:
        reached: offset of the first message that is not among these or earlier ones, by topic and partition.
            Without any the clock does not move: nobody takes these records for all that there are.
        cap: payments to keep of one user.
        merchants: whether they are in the merchants' totals, too; not where a user's payments got lost afterwards.
        held: topics and partitions whose position stood in Redis before; where one is gone, no position is written.

    Raises:
        RedisError: Redis does not answer, or refuses; then it is not known whether the records are in.
    """
    while True:
        try:
            with store.pipeline(transaction=True) as pipeline:
                return _apply(store, pipeline, payments, verdicts, reached, cap, merchants, held)
        except WatchError:
            continue


def _apply(
    store: redis.Redis,
    pipeline: Pipeline,
    payments: Sequence[PaymentEvent],
    verdicts: Sequence[Verdict],
    reached: Mapping[tuple[str, int], int],
    cap: int,
    merchants: bool,
    held: Collection[tuple[str, int]],
) -> Applied:
    newest = max([clock(store), *(payment.event_time for payment in payments)])
    horizon = newest - KEEP_DAYS * DAY_MS
    # The same payment twice is the one that came first, also where the second claims another amount: as in Silver.
    by_user: dict[str, dict[int, PaymentEvent]] = defaultdict(dict)
    for payment in payments:
        if payment.event_time >= horizon:
            by_user[payment.user_id].setdefault(payment.key, payment)
    reports: dict[str, dict[bytes, Verdict]] = defaultdict(dict)
    for verdict in verdicts:
        reports[verdict.user_id][verdict.pack()] = verdict

    users = {**by_user, **reports}
    if users:
        pipeline.watch(*map(USER_EVENTS.format, users), *map(USER_VERDICTS.format, users))
    before = _look(store, by_user, reports)
    new_payments = {
        user: {key: payment for key, payment in keyed.items() if (user, key) not in before.held}
        for user, keyed in by_user.items()
    }
    new_reports = {
        user: [member for member in packed if member not in before.verdicts[user]] for user, packed in reports.items()
    }
    totals = _merchant_totals(before, new_payments, new_reports) if merchants else Counter()

    pipeline.multi()
    trims: list[tuple[int, str]] = []
    firsts: list[tuple[int, int, int]] = []
    add = store.register_script(_ADD)
    too_old = b"(" + _KEY.pack(max(horizon, 0) << _ID_BITS)
    for user, keyed in new_payments.items():
        if keyed:
            trims.append((len(pipeline), user))
            members = [payment.pack() for payment in keyed.values()]
            add([USER_EVENTS.format(user)], [too_old, cap, EXPIRY_SECONDS, *members], client=pipeline)
    for user, members in new_reports.items():
        if members:
            pipeline.zadd(USER_VERDICTS.format(user), dict.fromkeys(members, 0))
    for (merchant, name), number in totals.items():
        if number:
            if ":" not in name:
                firsts.append((len(pipeline), merchant, number))
            pipeline.hincrby(MERCHANT_DAYS.format(merchant), name, number)
    if reached:
        _reach(store, pipeline, reached, newest, held)
    answers = pipeline.execute()
    _forget_old_days(store, [merchant for at, merchant, number in firsts if answers[at] == number], horizon // DAY_MS)
    return Applied(
        payments=sum(map(len, new_payments.values())),
        verdicts=sum(map(len, new_reports.values())),
        too_old=sum(payment.event_time < horizon for payment in payments),
        capped={user: answers[at] for at, user in trims if answers[at]},
        emptied=bool(reached) and not answers[-1],
    )


def _reach(
    store: redis.Redis,
    client: redis.Redis,
    reached: Mapping[tuple[str, int], int],
    newest: int,
    held: Collection[tuple[str, int]] = (),
) -> None:
    places = [f"{topic}:{partition}" for topic, partition in held]
    now = [word for (topic, partition), at in reached.items() for word in (f"{topic}:{partition}", at)]
    store.register_script(_REACH)([POSITIONS_KEY, CLOCK_KEY], [newest, len(places), *places, *now], client=client)


def say_complete(store: redis.Redis, reached: Mapping[tuple[str, int], int], newest: int) -> None:
    """What was applied without `reached` is all there is, up to these offsets and this event time in milliseconds."""
    if reached:
        _reach(store, store, reached, newest)


@dataclass(frozen=True, slots=True)
class _Before:
    """What Redis had of the users of a batch: which of its payments, all verdicts on theirs, and the members of the
    payments that the batch's verdicts are on."""

    held: set[tuple[str, int]]
    verdicts: dict[str, list[bytes]]
    judged: dict[tuple[str, int], bytes]


def _look(
    store: redis.Redis, by_user: Mapping[str, Mapping[int, Any]], reports: Mapping[str, Mapping[bytes, Verdict]]
) -> _Before:
    pipeline = store.pipeline(transaction=False)
    users = list({**by_user, **reports})
    for user in users:
        pipeline.zrange(USER_VERDICTS.format(user), 0, -1)
    sent = [(user, key) for user, keyed in by_user.items() for key in keyed]
    for user, key in sent:
        pipeline.zlexcount(USER_EVENTS.format(user), *_members_of(key))
    judged = [(user, key) for user, packed in reports.items() for key in {verdict.key for verdict in packed.values()}]
    for user, key in judged:
        pipeline.zrangebylex(USER_EVENTS.format(user), *_members_of(key))
    answers = iter(pipeline.execute())
    verdicts = {user: next(answers) for user in users}
    held = {place for place in sent if next(answers)}
    found = {place: next(answers) for place in judged}
    return _Before(held, verdicts, {place: members[0] for place, members in found.items() if members})


def _members_of(key: int) -> tuple[bytes, bytes]:
    """Bounds of all members that begin with a key."""
    start = _KEY.pack(key)
    return b"[" + start, b"[" + start + b"\xff" * 17


def _merchant_totals(
    before: _Before, new_payments: Mapping[str, Mapping[int, PaymentEvent]], new_reports: Mapping[str, Sequence[bytes]]
) -> Counter[tuple[int, str]]:
    """What is to be added to which field of which merchant's hash."""
    totals: Counter[tuple[int, str]] = Counter()
    for keyed in new_payments.values():
        for payment in keyed.values():
            totals[merchant_number(payment.merchant_id), str(payment.event_time // DAY_MS)] += 1
    for user in {*new_payments, *new_reports}:
        _count_frauds(totals, before, user, new_payments.get(user, {}), new_reports.get(user, []))
    return totals


def _count_frauds(
    totals: Counter[tuple[int, str]],
    before: _Before,
    user: str,
    new_payments: Mapping[int, PaymentEvent],
    new_reports: Sequence[bytes],
) -> None:
    """A merchant's frauds change with a verdict on a payment, and with a payment whose verdict came first."""
    old_reports = before.verdicts[user]
    for key in {*new_payments, *map(_key_of, new_reports)}:
        known_before = [member for member in old_reports if _key_of(member) == key]
        known_after = known_before + [member for member in new_reports if _key_of(member) == key]
        if not known_after:
            continue
        old, new = before.judged.get((user, key)), new_payments.get(key)
        if old:
            for name, change in _fraud_changes(known_before):
                totals[_merchant_of(old), name] -= change
        if old or new:
            merchant = _merchant_of(old) if old else merchant_number(new.merchant_id) if new else 0
            for name, change in _fraud_changes(known_after):
                totals[merchant, name] += change


def _fraud_changes(reports: Iterable[bytes]) -> list[tuple[str, int]]:
    """The fields of a merchant's hash for the verdicts on one payment: known from the first midnight after a report of
    fraud, until the first one after the next report."""
    changes: list[tuple[str, int]] = []
    was_fraud = False
    for key, verdict in sorted(_VERDICT.unpack(member) for member in reports):
        is_fraud = bool(verdict & 1)
        if is_fraud != was_fraud:
            day, known_on = (key >> _ID_BITS) // DAY_MS, -(-(verdict >> 1) // DAY_MS)
            changes.append((f"{day}:{known_on}", 1 if is_fraud else -1))
        was_fraud = is_fraud
    return changes


def _forget_old_days(store: redis.Redis, merchants: Sequence[int], first_day: int) -> None:
    """When a merchant's day begins, those that no window reaches any more go."""
    if not merchants:
        return
    keys = [MERCHANT_DAYS.format(merchant) for merchant in merchants]
    pipeline = store.pipeline(transaction=False)
    for key in keys:
        pipeline.hkeys(key)
    for key, names in zip(keys, pipeline.execute(), strict=True):
        pipeline.expire(key, EXPIRY_SECONDS)
        if old := [name for name in names if int(name.partition(b":")[0]) < first_day]:
            pipeline.hdel(key, *old)
    pipeline.execute()


def _key_of(member: bytes) -> int:
    return _KEY.unpack_from(member)[0]


def _merchant_of(member: bytes) -> int:
    return _EVENT.unpack(member)[2] >> _DEVICE_BITS


def _words(members: Sequence[bytes], width: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """One array for each word: shape (width, n)."""
    if any(len(member) != 8 * width for member in members):
        raise ValueError(f"an event of other than {8 * width} bytes")
    return np.frombuffer(b"".join(members), dtype=">u8").reshape(-1, width).T.astype(np.int64)
