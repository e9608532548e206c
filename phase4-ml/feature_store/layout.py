"""How the online store keeps events in Redis: keys, the bytes of their members, and back to what the features need.

Upstream are the feature stream, the rebuild from Bronze and the repair, which write through `writer.py`; downstream is
the API's feature client. Redis has every user's payments of the last 32 days, all labels, and merchants' totals by day.

    user_events:{user_id}     sorted set, all scores 0, so in the order of its members' bytes, which is that of time:
                              one member of 24 bytes for each payment, three big-endian words:
                                key      event time in ms (42 bits), transaction_id as a number (21 bits)
                                payment  7 more bits of the device, is_international (1 bit), country as a number (16),
                                         amount in cents (40)
                                parties  merchant as a number (40 bits), the first 23 bits of the device as a number
    user_labels:{user_id}     sorted set like it: 16 bytes for each label, two big-endian words:
                                key      that of the payment, whose event time is in the label
                                label    reported_at in ms (42 bits), is_fraud (1 bit)
    merchant_days:{number}    hash: "<day>" → payments of that day; "<day>s" → sum of `features.log_steps` of their
                              amounts, "<day>q" → sum of the squares of these; "<day>:<known_on>" → how many more of
                              them are known as frauds from 00:00 UTC of the day known_on. Days since 1970.
    device_users:{number}     sorted set: one member of 7 bytes for each user and day on which the user paid with the
                              device: day since 1970 (2 bytes), user as a number (5), big-endian. The score is the event
                              time of the user's first payment of that day, in ms. Of each day, the first
                              features.DEVICE_USERS_COUNTED users; more are not counted
    device_frauds:{number}    hash like merchant_days: "<day>:<known_on>" → how many more of the device's payments of
                              that day are known as frauds. A payment without a device is in neither of them
    feature_store:layout      LAYOUT_VERSION of the program that has written all of this
    feature_store:writes:{n}  how often payments or labels of a sixtieth of all users were written: two processes that
                              write the same users at once notice by it
    feature_stream:positions  hash: "<topic>:<partition>" → offset of the first message that is not in Redis
    feature_stream:newest_users
                              sorted set: the DATA_CLOCK_RANK users with the newest payments, by event time in ms
    feature_stream:data_clock the lowest score in it, in ms
    feature_stream:complete   8 bytes for each partition of transactions.raw, big-endian: Redis has everything that
                              Kafka received in this partition up to that moment, in ms; 0 where that is unknown
    feature_stream:scattered  exists if payments were in other partitions than `freshness.partition_of` says
    feature_writer:pushed_at  when the last complete push of snapshots began, in ms

Beside these are the batch snapshots from Gold, user_features:{user_id}, merchant_features:{merchant_id} and
category_risks: JSON, see `features.py`. Those of users expire, so that users who are gone are forgotten; the others do
not, since payments don't say what a merchant's category is. Earlier releases named user_labels:{user_id}
user_verdicts:{user_id}, and kept the newest event time of all as feature_stream:clock; the feature stream replaces
both.

Names become numbers by a hash. Of two merchants in 10,000 the chance to share a number is 1 in 20,000; they would share
their totals. Of 50,000 devices one pair is expected to share a number, and with it users and frauds. Within one user,
equal numbers of different merchants or devices are out of the question.
"""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from features import DAY_MS, WINDOWS_DAYS, DeviceUser, FraudChange, MerchantDay, Parties, UserEvents

from feature_store.freshness import partition_of

USER_EVENTS = "user_events:{}"
USER_LABELS = "user_labels:{}"
MERCHANT_DAYS = "merchant_days:{}"
DEVICE_USERS = "device_users:{}"
DEVICE_FRAUDS = "device_frauds:{}"
LAYOUT_KEY = "feature_store:layout"
WRITES = "feature_store:writes:{}"
POSITIONS_KEY = "feature_stream:positions"
CLOCK_KEY = "feature_stream:data_clock"
NEWEST_USERS_KEY = "feature_stream:newest_users"
COMPLETE_KEY = "feature_stream:complete"
SCATTERED_KEY = "feature_stream:scattered"
PUSHED_AT_KEY = "feature_writer:pushed_at"

# 2 since merchants have sums of logarithms, and devices their users and frauds. The stream fills Redis again if what is
# there has another layout.
LAYOUT_VERSION = 2

_WRITES = 60

# Two more than the longest window, for payments that arrive a day late.
KEEP_DAYS = 32
# Days of a merchant or a device that are kept whatever the data clock says: eight more than a busy one has, for wrong
# dates.
DAYS_AT_LEAST = KEEP_DAYS + 8
KEEP_MS = KEEP_DAYS * DAY_MS
_LONGEST_WINDOW_DAYS = max(WINDOWS_DAYS)
# In wall-clock time: a user without payments for so long is removed; payments of the others are pruned as they pay.
EXPIRY_SECONDS = 35 * 86_400

_KEY = struct.Struct(">Q")
_EVENT = struct.Struct(">QQQ")
_LABEL = struct.Struct(">QQ")
_ID_BITS, _CENTS_BITS, _COUNTRY_BITS, _MERCHANT_BITS, _DEVICE_BITS = 21, 40, 16, 40, 23
_MORE_DEVICE_BITS = 7
_USER_BITS = 40
_DEVICE_USER = struct.Struct(">HBL")


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
        """The number that distinguishes it from the user's other payments."""
        return payment_key(self.event_time, self.transaction_id)

    def pack(self) -> bytes:
        """The member of the user's sorted set."""
        merchant, country, device = parties_of(self.merchant_id, self.country, self.device_id)
        more = device_number(self.device_id) & (1 << _MORE_DEVICE_BITS) - 1
        return _EVENT.pack(
            self.key,
            ((more << 1 | self.is_international) << _COUNTRY_BITS | country) << _CENTS_BITS | self.cents,
            merchant << _DEVICE_BITS | device,
        )


@dataclass(frozen=True, slots=True)
class Label:
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
        return _LABEL.pack(self.key, self.reported_at << 1 | self.is_fraud)


@dataclass(frozen=True, slots=True)
class LabelMember:
    """What a member of user_labels contains; times are in milliseconds since 1970 UTC."""

    payment_key: int
    event_time: int
    reported_at: int
    is_fraud: bool

    @classmethod
    def unpack(cls, member: bytes) -> "LabelMember":
        """From its 16 bytes."""
        key, label = _LABEL.unpack(member)
        return cls(key, event_time=key >> _ID_BITS, reported_at=label >> 1, is_fraud=bool(label & 1))


@lru_cache(maxsize=100_000)
def name_number(name: str, bits: int) -> int:
    """The number for a name, the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> (64 - bits)


def merchant_number(merchant_id: str) -> int:
    """The number for a merchant, in a user's payments and in the key of its totals."""
    return name_number(merchant_id, _MERCHANT_BITS)


@lru_cache(maxsize=100_000)
def device_number(device_id: str) -> int:
    """The number for a device in the keys of its state; it begins with that of `Parties`."""
    return name_number(device_id, _DEVICE_BITS + _MORE_DEVICE_BITS)


NO_DEVICE = device_number("")


def parties_of(merchant_id: str, country: str | None, device_id: str | None) -> Parties:
    """The numbers that a payment of these has in `UserEvents`; a name that is not given is the same as an empty one."""
    return Parties(
        merchant_number(merchant_id),
        name_number(country or "", _COUNTRY_BITS),
        name_number(device_id or "", _DEVICE_BITS),
    )


def payment_key(event_time: int, transaction_id: str) -> int:
    """Time first, so that keys have the order of time."""
    digest = blake2b(transaction_id.encode(), digest_size=4).digest()
    return event_time << _ID_BITS | int.from_bytes(digest) >> (32 - _ID_BITS)


def kept_from(newest: int, data_clock: int) -> int:
    """Of a user, payments before this event time are too old for any window, and removed; all in milliseconds.

    A wrong row in the future moves only its own user's newest payment, and a user whose partition is read more slowly
    than others is not pruned by them.

    Args:
        newest: the event time of the user's newest payment.
        data_clock: 0 if it is unknown; then nothing is too old.
    """
    return min(newest, data_clock) - KEEP_MS


def first_day_kept(days: Collection[int], data_clock: int) -> int:
    """The same of a merchant or a device, in days since 1970: what is before it may be removed.

    If there are so many payments of wrong dates that the data clock is wrong as well as the newest day, the newest
    DAYS_AT_LEAST days are kept nevertheless.

    Args:
        days: on which it has payments.
    """
    newest_first = sorted(days, reverse=True)
    return min(newest_first[0] - KEEP_DAYS, data_clock // DAY_MS - KEEP_DAYS, newest_first[:DAYS_AT_LEAST][-1])


def covers_user(newest: int, data_clock: int, moment: int) -> bool:
    """Whether Redis still has all payments of a user in the longest window before a moment, in milliseconds."""
    return moment - _LONGEST_WINDOW_DAYS * DAY_MS >= kept_from(newest, data_clock)


def covers_days(days: Collection[int], data_clock: int, day: int) -> bool:
    """Whether Redis still has all of a merchant or a device in the longest window before a day, given its days."""
    # Of fewer days none has been removed.
    return len(days) < DAYS_AT_LEAST or day - _LONGEST_WINDOW_DAYS >= first_day_kept(days, data_clock)


def event_time_of(member: bytes) -> int:
    """The event time in a member of either sorted set."""
    return key_of(member) >> _ID_BITS


def key_of(member: bytes) -> int:
    """The payment's key in a member of either sorted set."""
    (key,) = _KEY.unpack_from(member)
    return key


def merchant_of(member: bytes) -> int:
    """The merchant's number in a member of user_events."""
    _, _, parties = _EVENT.unpack(member)
    return parties >> _DEVICE_BITS


def device_of(member: bytes) -> int:
    """The device's number in a member of user_events."""
    _, payment, parties = _EVENT.unpack(member)
    more = payment >> (_CENTS_BITS + _COUNTRY_BITS + 1)
    return (parties & (1 << _DEVICE_BITS) - 1) << _MORE_DEVICE_BITS | more


def device_user(event_time: int, user_id: str) -> bytes:
    """The member of device_users of a user who pays at this time."""
    user = name_number(user_id, _USER_BITS)
    return _DEVICE_USER.pack(event_time // DAY_MS, user >> 32, user & 0xFFFFFFFF)


def first_member_of(event_time: int) -> bytes:
    """What is not after any member of this time or a later one, in either sorted set, and after all earlier ones."""
    return _KEY.pack(max(0, event_time) << _ID_BITS)


def key_bytes(key: int) -> bytes:
    """What the members of a payment and of the labels on it begin with."""
    return _KEY.pack(key)


def writes_number(user_id: str) -> int:
    """Which of the counters of writes is that of a user.

    Processes that read different partitions have different ones if their number divides 60, as 10, 12, 20 and 30 do.
    """
    return partition_of(user_id, _WRITES)


def unpack_user(events: Sequence[bytes], labels: Sequence[bytes]) -> UserEvents:
    """The members of a user's two sorted sets as arrays.

    Raises:
        ValueError: members of another length.
    """
    key, payment, parties = _words(events, 3)
    label_key, label = _words(labels, 2)
    return UserEvents(
        event_time=key >> _ID_BITS,
        cents=payment & (1 << _CENTS_BITS) - 1,
        is_international=(payment >> (_CENTS_BITS + _COUNTRY_BITS)) & 1,
        merchant=parties >> _DEVICE_BITS,
        country=(payment >> _CENTS_BITS) & (1 << _COUNTRY_BITS) - 1,
        device=parties & (1 << _DEVICE_BITS) - 1,
        label_payment=label_key,
        label_reported_at=label >> 1,
        label_is_fraud=label & 1,
    )


def payments_field(event_time: int) -> str:
    """The field of merchant_days that counts the payments of a day."""
    return str(event_time // DAY_MS)


def amounts_fields(event_time: int) -> tuple[str, str]:
    """The fields of merchant_days for the sum of the logarithms of a day's amounts, and for that of their squares."""
    day = event_time // DAY_MS
    return f"{day}s", f"{day}q"


def counts_payments(field: str) -> bool:
    """Whether a field of merchant_days counts payments."""
    return field.isdigit()


def frauds_field(event_time: int, reported_at: int) -> str:
    """The field of merchant_days for frauds of a day: known from the first midnight after the report."""
    return f"{event_time // DAY_MS}:{-(-reported_at // DAY_MS)}"


def day_of_field(name: bytes) -> int:
    """The day of the payments that a field of merchant_days is about."""
    day, _, _ = name.partition(b":")
    return int(day.rstrip(b"sq"))


def unpack_device(
    users: Iterable[tuple[bytes, float]], frauds: Mapping[bytes, bytes]
) -> tuple[list[DeviceUser], list[FraudChange]]:
    """A device's sorted set, with its scores, and its hash as `DeviceFeatures.from_days` takes them."""
    _, changes = unpack_merchant(frauds)
    return [DeviceUser(user=member[2:], first_payment=int(score)) for member, score in users], changes


def unpack_merchant(fields: Mapping[bytes, bytes]) -> tuple[dict[int, MerchantDay], list[FraudChange]]:
    """A merchant's hash as `MerchantFeatures.from_days` takes it: its days, and frauds."""
    days: dict[int, MerchantDay] = {}
    frauds: list[FraudChange] = []
    for name, number in fields.items():
        day, _, known_on = name.partition(b":")
        if known_on:
            frauds.append(FraudChange(int(day), int(known_on), int(number)))
        elif name.isdigit():
            sums = int(fields.get(name + b"s", 0)), int(fields.get(name + b"q", 0))
            days[int(day)] = MerchantDay(int(number), *sums)
    return days, frauds


def _words(members: Sequence[bytes], width: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """One array for each word: shape (width, n)."""
    if any(len(member) != 8 * width for member in members):
        raise ValueError(f"a member does not have {8 * width} bytes")
    return np.frombuffer(b"".join(members), dtype=">u8").reshape(-1, width).T.astype(np.int64)
