"""Schema evolution by the real registry: a compatible change passes, an incompatible one is refused."""

import json
from pathlib import Path

import pytest
from fraud_common.avro import Decoder, Encoder, load_encoder, parse_schema
from fraud_common.errors import UserError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import TRANSACTIONS
from producer.init import run_init
from producer.settings import Settings
from producer.simulator.records import Records
from producer.simulator.stream import Stream

pytestmark = pytest.mark.stack


@pytest.fixture
def registry(settings: Settings) -> SchemaRegistry:
    return SchemaRegistry(settings.schema_registry_url)


def changed(settings: Settings, **change: object) -> str:
    schema = json.loads((settings.schema_dir / "transaction.avsc").read_text())
    fields = {field["name"]: field for field in schema["fields"]}
    for name, value in change.items():
        fields[name] = {"name": name} | value  # type: ignore[operator]
    return json.dumps(schema | {"fields": list(fields.values())})


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
    "change", [{"channel": {"type": "string"}}, {"amount": {"type": "long"}}, {"user_id": {"type": "long"}}]
)
def test_an_incompatible_change_is_refused(settings: Settings, registry: SchemaRegistry, change: dict) -> None:
    with pytest.raises(UserError, match=r"transactions.raw-value: the registry refuses the schema: "):
        registry.register(TRANSACTIONS, changed(settings, **change))


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
