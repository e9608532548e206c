"""What the tests use: Trino, the Delta tables on MinIO without Trino, and dbt as the pipeline runs it."""

import json
import os
import subprocess
from datetime import datetime

import pandas as pd
from deltalake import DeltaTable
from lakehouse.connection import lakehouse_cursor

_S3 = {"endpoint_url": "http://minio:9000", "region": "us-east-1", "allow_http": "true", "conditional_put": "etag"}
BRONZE_STORAGE = _S3 | {"access_key_id": "spark", "secret_access_key": os.environ.get("SPARK_S3_SECRET", "")}
READER_STORAGE = _S3 | {"access_key_id": "trino", "secret_access_key": os.environ.get("TRINO_S3_SECRET", "")}


# Small slices, so that a small world has several, and both ways of counting distinct values are used.
SMALL_SLICES = {"training_slice": 1500, "few_entity_rows": 1000}


def dbt(*arguments: str, variables: dict[str, int | str] = SMALL_SLICES) -> str:
    """Run dbt as the pipeline does; fails with dbt's output if dbt fails."""
    command = ["dbt-run", *arguments, "--vars", json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
    return done.stdout


def run_pipeline() -> None:
    """What one run of the DAG does, without its tests; the DAG calls dbt once for each layer."""
    dbt("run")


def rows(sql: str) -> pd.DataFrame:
    """The answer to a query."""
    with lakehouse_cursor() as trino:
        trino.execute(sql)
        answer = trino.fetchall()
        return pd.DataFrame(answer, columns=[column[0] for column in trino.description])


def delta_table(path: str, as_of: datetime | None = None) -> DeltaTable:
    """A table of the lakehouse, now or as it was at an instant, read from MinIO alone."""
    table = DeltaTable(f"s3://lakehouse/{path}", storage_options=READER_STORAGE)
    if as_of:
        table.load_as_version(as_of)
    return table
