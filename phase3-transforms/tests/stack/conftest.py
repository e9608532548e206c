"""One lakehouse for all tests of the transforms: three batches of Bronze, the pipeline's dbt run after each."""

import pandas as pd
import pytest
from lake import dbt, rows, run_pipeline
from lakehouse.register import wait_for_bronze
from world import Bronze, make_batches


@pytest.fixture(scope="session")
def bronze() -> Bronze:
    """Bronze after three batches, with Silver and Gold built incrementally after each."""
    bronze = Bronze()
    for number, batch in enumerate(make_batches(seed=20190301)):
        bronze.load(batch)
        if number == 0:
            wait_for_bronze(60)
            dbt("seed")
        run_pipeline()
    return bronze


@pytest.fixture(scope="session")
def merchants(bronze: Bronze) -> pd.DataFrame:
    """The seed, as Trino has it."""
    return rows("select * from silver.merchants")
