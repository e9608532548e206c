"""Schema evolution by the real registry: a compatible change passes, an incompatible one is refused."""

import json
from pathlib import Path

import httpx2
import pytest
from fraud_common.avro import Decoder, Encoder, load_encoder, parse_schema
from fraud_common.errors import UserError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import SCHEMA_FILES, TRANSACTIONS, subject_of
from producer.init import run_init
from producer.settings import Settings
from producer.simulator.records import Records
from producer.simulator.stream import Stream

pytestmark = pytest.mark.stack


@pytest.fixture
def registry(settings: Settings) -> SchemaRegistry:
    return SchemaRegistry(settings.schema_registry_url)


def changed(settings: Settings, **change: object) -> str:
    """Our schema with other fields, or without those that are None."""
    schema = json.loads((settings.schema_dir / "transaction.avsc").read_text())
    fields = {field["name"]: field for field in schema["fields"]}
    for name, value in change.items():
        fields[name] = value and {"name": name} | value  # type: ignore[operator]
    return json.dumps(schema | {"fields": [field for field in fields.values() if field]})


def test_init_is_idempotent_and_gives_the_same_ids(settings: Settings, registry: SchemaRegistry) -> None:
    before = load_encoder(registry, settings.schema_dir, TRANSACTIONS).schema_id
    run_init(settings)
    assert load_encoder(registry, settings.schema_dir, TRANSACTIONS).schema_id == before


def test_a_new_field_with_a_default_passes_and_old_messages_stay_readable(
    settings: Settings, registry: SchemaRegistry
) -> None:
    old = load_encoder(registry, settings.schema_dir, TRANSACTIONS)
    text = changed(settings, channel={"type": ["null", "string"], "default": None})
    new = Encoder(parse_schema(text), registry.register(TRANSACTIONS, text))
    assert new.schema_id != old.schema_id
    stream = Stream(1, 100, 20_000)
    block = stream.block(20_000)
    record = next(Records(stream).transactions(block.payments, block.positions))
    decoder = Decoder(registry)
    assert "channel" not in decoder.decode(old.encode(record))
    assert decoder.decode(new.encode(record | {"channel": "app"}))["channel"] == "app"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channel": {"type": "string"}}, "channel: is new and has no default"),
        ({"amount": {"type": "long"}}, "amount: its type is"),
        ({"user_id": {"type": "long"}}, "user_id: its type is"),
        # The registry itself accepts these.
        ({"event_time": {"type": {"type": "long", "logicalType": "timestamp-micros"}}}, "event_time: its type is"),
        (
            {"amount": {"type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4}}},
            "amount: its type is",
        ),
        (
            {"device_type": {"type": {"type": "enum", "name": "DeviceType", "symbols": ["mobile", "web", "atm"]}}},
            "device_type: its type is",
        ),
        ({"metadata": None}, "metadata: is removed"),
        ({"currency": None}, "currency: is removed"),
    ],
)
def test_a_change_that_readers_would_misread_is_refused_and_the_message_says_what_is_allowed(
    settings: Settings, registry: SchemaRegistry, change: dict, reason: str
) -> None:
    """C1."""
    before = registry.versions(TRANSACTIONS)
    with pytest.raises(UserError, match=rf"transactions.raw-value: the schema is refused: {reason}.*add an optional"):
        registry.register(TRANSACTIONS, changed(settings, **change))
    assert registry.versions(TRANSACTIONS) == before


def compatibility(settings: Settings, path: str) -> str | None:
    answer = httpx2.get(f"{settings.schema_registry_url}/config{path}")
    return answer.json().get("compatibilityLevel") if answer.status_code == 200 else None


def test_the_rule_is_set_for_our_subjects_only(settings: Settings) -> None:
    """C4: a company's registry has a rule of its own."""
    before = compatibility(settings, "")
    assert before
    url = f"{settings.schema_registry_url}/config"
    for rule in ("NONE", "BACKWARD", before):
        assert httpx2.put(url, json={"compatibility": rule}).status_code == 200
        run_init(settings)
        assert compatibility(settings, "") == rule
    for topic in SCHEMA_FILES:
        assert compatibility(settings, f"/{subject_of(topic)}") == "FULL_TRANSITIVE"


def test_the_registry_itself_refuses_to_lose_a_field(settings: Settings) -> None:
    """C1: also from a tool that does not know our checks."""
    url = f"{settings.schema_registry_url}/subjects/{subject_of(TRANSACTIONS)}/versions"
    assert httpx2.post(url, json={"schema": changed(settings, currency=None)}).status_code == 409


def test_a_registry_with_the_schema_of_an_earlier_release_is_upgraded(
    settings: Settings, registry: SchemaRegistry
) -> None:
    subject = f"{settings.schema_registry_url}/subjects/{subject_of(TRANSACTIONS)}"
    for query in ("", "?permanent=true"):
        assert httpx2.delete(subject + query).status_code in (200, 404)
    old = changed(settings, merchant_category=None)
    httpx2.put(f"{settings.schema_registry_url}/config/{subject_of(TRANSACTIONS)}", json={"compatibility": "BACKWARD"})
    assert httpx2.post(f"{subject}/versions", json={"schema": old}).status_code == 200
    run_init(settings)
    assert [len(json.loads(text)["fields"]) for _, text in registry.versions(TRANSACTIONS)] == [13, 14]


def test_an_unregistered_schema_says_how_to_register_it(
    settings: Settings, registry: SchemaRegistry, tmp_path: Path
) -> None:
    text = changed(settings, other={"type": ["null", "string"], "default": None})
    (tmp_path / "transaction.avsc").write_text(text)
    with pytest.raises(
        UserError, match=r"doesn't have this schema .* register it: docker compose run --rm ingestion-init"
    ):
        load_encoder(registry, tmp_path, TRANSACTIONS)


@pytest.mark.parametrize(
    "url", ["http://schema-registry:1", "http://nowhere.invalid:8081", "not a url", "http://kafka:29092"]
)
def test_a_wrong_registry_address_is_one_line(settings: Settings, url: str) -> None:
    with pytest.raises(UserError, match=r"^SCHEMA_REGISTRY_URL=") as error:
        load_encoder(SchemaRegistry(url), settings.schema_dir, TRANSACTIONS)
    assert "\n" not in str(error.value)
