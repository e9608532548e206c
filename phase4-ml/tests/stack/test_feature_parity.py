"""Training and serving compute the same numbers, also after the snapshots went through real Redis.

The examples come from the brute-force oracle of the transforms' tests, which proves there to equal the SQL.
"""

import asyncio

import numpy as np
import pytest
from feature_world import learned_matrix, make_examples
from features import FEATURES, MERCHANT_KEY, USER_KEY, MerchantFeatures, UserFeatures
from fraud_common.settings import load_settings
from serving.feature_client import FeatureClient, Found, Subjects
from serving.settings import Settings
from serving_stack import redis_client


def through_redis(values: dict[str, str], names: list[str]) -> list[Found]:
    """Written as the feature writer does, and read as the API does."""
    redis_client().mset(values)

    async def read() -> list[Found]:
        client = FeatureClient(load_settings(Settings, redis_deadline_ms=5_000))
        try:
            return await client.look_up([Subjects(name, name) for name in names])
        finally:
            await client.close()

    read_back = asyncio.run(read())
    redis_client().delete(*values)
    return read_back


@pytest.mark.parametrize("seed", [1, 2])
def test_an_example_is_the_vector_of_the_same_payment_at_the_same_instant(seed: int) -> None:
    examples = make_examples(seed)
    names = [f"parity-{number}" for number in range(len(examples))]
    values = {}
    for name, example in zip(names, examples, strict=True):
        values[USER_KEY.format(name)] = example.user.to_json()
        values[MERCHANT_KEY.format(name)] = example.merchant.to_json()
    learned = learned_matrix(examples)
    scored = np.stack(
        [
            UserFeatures.from_json(found.user or b"").to_array(
                example.payment, MerchantFeatures.from_json(found.merchant or b""), example.novelty, example.device
            )
            for example, found in zip(examples, through_redis(values, names), strict=True)
        ]
    )
    assert learned.shape == scored.shape == (len(examples), len(FEATURES))
    for position, name in enumerate(FEATURES):
        np.testing.assert_allclose(scored[:, position], learned[:, position], rtol=1e-6, atol=1e-6, err_msg=name)
