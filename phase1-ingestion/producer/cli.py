"""The command line of phase 1: `ingestion --help`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fraud_common.errors import UserError
from producer.settings import load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def init() -> None:
    """Make the topics and register the schemas; what is there already stays as it is."""
    from producer.init import run_init

    run_init(load_settings())


@app.command()
def produce() -> None:
    """Send the simulated stream: the history, then live at PRODUCER_TPS, until SIGTERM."""
    from fraud_common.logs import set_up_logging
    from producer.producer import run_producer

    set_up_logging()
    run_producer(load_settings())


@app.command()
def progress(
    metrics_url: Annotated[str, typer.Option(help="The producer's metrics.")] = "http://producer:9400/metrics",
) -> None:
    """Show how far the back-fill is, until it is done."""
    from producer.progress import follow_backfill

    follow_backfill(metrics_url)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet file of transactions.")],
    column_map: Annotated[Path | None, typer.Option("--map", help="YAML file: which column is which field.")] = None,
) -> None:
    """Send your own transactions through the same topics, with their own event times."""
    from producer.replay.replay import run_replay

    run_replay(load_settings(), file, column_map)


@app.command("dlq-show")
def dlq_show(
    last: Annotated[int, typer.Option(min=0, help="How many of the newest to print, decoded where possible.")] = 10,
) -> None:
    """Count the dead letters by stage and reason, and print the newest."""
    from producer.dlq.dlq import show

    show(load_settings(), last)


@app.command("dlq-redrive")
def dlq_redrive(
    reason: Annotated[
        list[str] | None, typer.Option(help="Only those that failed for this reason (may be repeated).")
    ] = None,
    offset: Annotated[
        list[str] | None,
        typer.Option(help="Only this one, PARTITION-OFFSET in the dead letter topic (may be repeated)."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Repair on the way: FIELD=VALUE (may be repeated).")
    ] = None,
    go: Annotated[bool, typer.Option("--go", help="Send them; without it nothing is sent (dry run).")] = False,
) -> None:
    """Send dead letters back to the topic they were meant for. Without --go it only says what it would do."""
    from producer.dlq.dlq import redrive

    redrive(load_settings(), reasons=reason or [], places=offset or [], every=every, changes=change or [], go=go)


@app.command()
def bench(
    seconds: Annotated[float, typer.Option(min=1, help="How long each measurement at a fixed rate takes.")] = 60.0,
    messages: Annotated[
        int, typer.Option(min=1000, help="How many messages the full-speed measurement sends.")
    ] = 1_000_000,
    tps: Annotated[list[float] | None, typer.Option(help="Fixed rates to measure (may be repeated).")] = None,
) -> None:
    """Measure the producer against the running broker, on a topic of its own."""
    from producer.bench import run_bench

    run_bench(load_settings(), messages, tps if tps is not None else [100.0, 5000.0], seconds)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
