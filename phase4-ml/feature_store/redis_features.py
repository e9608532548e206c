"""Shows the online store: keys of each kind, memory, and what stream and snapshots have of one user and merchant.

python -m feature_store.redis_features --user U1234
"""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import redis
from features import EPOCH, MERCHANT_KEY, SNAPSHOT_SECONDS, USER_KEY, MerchantFeatures, UserFeatures
from fraud_common.errors import one_line_errors
from fraud_common.redis import redis_client
from fraud_common.settings import RedisSettings, load_settings

from feature_store import coverage
from feature_store.layout import MERCHANT_DAYS, USER_EVENTS, USER_LABELS, unpack_user
from feature_store.pipelines import NamedPipeline

KINDS: dict[str, type[UserFeatures] | type[MerchantFeatures]] = {
    USER_KEY: UserFeatures,
    MERCHANT_KEY: MerchantFeatures,
}


def count_keys(store: redis.Redis) -> tuple[dict[str, int], dict[str, str]]:
    """How many keys there are of each kind, and one of each; reads them without blocking Redis."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for key in store.scan_iter(count=10_000):
        name = key.decode(errors="replace")
        kind = name.partition(":")[0] + ":{}"
        counts[kind] = counts.get(kind, 0) + 1
        examples.setdefault(kind, name)
    return counts, examples


def describe(store: redis.Redis, key: str, features: type[UserFeatures] | type[MerchantFeatures]) -> str:
    """One snapshot for a person."""
    pipeline = NamedPipeline(store.pipeline(transaction=False))
    pipeline.named("text").get(key)
    pipeline.named("seconds left").ttl(key)
    results = pipeline.execute()
    text, left = results["text"], results["seconds left"]
    if text is None:
        return f"{key}: not there; a prediction uses the defaults"
    try:
        snapshot = features.from_json(text)
    except (ValueError, TypeError, AttributeError) as error:
        return f"{key}: can't be read ({error}); a prediction uses the defaults. It begins {text[:200]!r}"
    lines = [f"{key}: {len(text):,} bytes"]
    # That of a merchant does not expire.
    if left >= 0:
        lines[0] += f", written {_span(SNAPSHOT_SECONDS - left)} ago, expires in {_span(left)}"
    if snapshot.as_of:
        age = (datetime.now(UTC) - snapshot.as_of).total_seconds()
        lines.append(f"  as of {snapshot.as_of.isoformat()}, the data's own time: {_span(age)} before now")
    lines += [f"  {name:<28} {_plain(value)}" for name, value in asdict(snapshot).items() if name != "as_of"]
    return "\n".join(lines)


def describe_stream(store: redis.Redis, user: str, newest: int) -> str:
    """What the stream has of a user, and the features that the next payment would get."""
    key = USER_EVENTS.format(user)
    pipeline = NamedPipeline(store.pipeline(transaction=False))
    pipeline.named("payments").zrange(key, 0, -1)
    pipeline.named("labels").zrange(USER_LABELS.format(user), 0, -1)
    pipeline.named("bytes").memory_usage(key)
    results = pipeline.execute()
    payments, labels, size = results["payments"], results["labels"], results["bytes"] or 0
    if not payments and not labels:
        return f"{key}: not there; a prediction uses the snapshot"
    events = unpack_user(payments, labels)
    features = UserFeatures.from_events(events, EPOCH + timedelta(milliseconds=newest + 1))
    lines = [f"{key}: {len(payments)} payments, {len(labels)} labels, {size:,} bytes; for the next payment:"]
    lines += [f"  {name:<28} {_plain(value)}" for name, value in asdict(features).items() if name != "as_of"]
    return "\n".join(lines)


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def show(settings: RedisSettings, user: str | None) -> None:
    """Print it all.

    Raises:
        UserError: Redis does not answer, or refuses the password.
    """
    with redis_client(settings) as store:
        counts, examples = count_keys(store)
        memory = store.info("memory")
        for kind in sorted({*counts, *KINDS, USER_EVENTS, USER_LABELS, MERCHANT_DAYS}):
            print(f"{kind:<28} {counts.get(kind, 0):>10,} keys")
        newest = coverage.clock(store)
        if newest:
            moment = (EPOCH + timedelta(milliseconds=newest)).isoformat(timespec="milliseconds")
            print(f"stream: the data clock is {moment}")
        if slowest := coverage.completeness(store).slowest:
            arrived = (EPOCH + timedelta(milliseconds=slowest)).isoformat(timespec="seconds")
            print(f"stream: complete up to what arrived at {arrived}, in the slowest partition")
        limit = memory["maxmemory_human"] if memory["maxmemory"] else "no limit"
        print(f"memory: {memory['used_memory_human']} of {limit}; evicted: {store.info('stats')['evicted_keys']:,}")
        if user:
            examples |= {USER_KEY: USER_KEY.format(user), USER_EVENTS: USER_EVENTS.format(user)}
        if USER_EVENTS in examples:
            _, _, shown_user = examples[USER_EVENTS].partition(":")
            print(f"\n{describe_stream(store, shown_user, newest)}")
        for kind, features in KINDS.items():
            if kind in examples:
                print(f"\n{describe(store, examples[kind], features)}")
    if not any(kind in counts for kind in KINDS):
        print("\nno snapshots: the pipeline writes them (task push_features_to_redis)")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m feature_store.redis_features", description=__doc__.splitlines()[0])
    parser.add_argument("--user", metavar="USER_ID", help="show this user's features")
    arguments = parser.parse_args()
    with one_line_errors():
        show(load_settings(RedisSettings), arguments.user)


if __name__ == "__main__":
    main()
