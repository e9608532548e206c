"""The command line of phase 1: `ingestion --help`."""

from pathlib import Path
from typing import Annotated

import typer
from fraud_common.errors import one_line_errors
from fraud_common.settings import load_settings

from producer.settings import Settings

# Commands import what they need, so that each starts without the packages of the others.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def init() -> None:
    """Create the topics and register the schemas; existing ones stay as they are."""
    from producer.init import run_init

    run_init(load_settings(Settings))


@app.command()
def produce() -> None:
    """Send the simulated stream: first the history, then live at PRODUCER_TPS, until SIGTERM."""
    from fraud_common.service import run_service

    from producer.producer import run_producer

    run_service(Settings, run_producer)


@app.command()
def progress(
    metrics_url: Annotated[str, typer.Option(help="The producer's metrics.")] = "http://producer:9400/metrics",
) -> None:
    """Show the progress of the backfill until it is complete."""
    from producer.progress import follow_backfill

    follow_backfill(metrics_url)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON lines file of transactions.")],
    column_map: Annotated[
        Path | None, typer.Option("--map", help="YAML file: which column is which field; or the name of a shipped map.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", envvar="CHECK", help="Say what would be sent and what refused; send nothing.")
    ] = False,
    start: Annotated[
        int, typer.Option(envvar="START", min=1, help="The first row to send, as an interrupted run has said.")
    ] = 1,
) -> None:
    """Send your own transactions through the same topics, with their own event times."""
    from producer.replay.replay import run_replay

    run_replay(load_settings(Settings), file, column_map, check=check, start=start)


@app.command("dlq-show")
def dlq_show(
    last: Annotated[
        int, typer.Option(envvar="LAST", min=0, help="How many of the newest to print, decoded if possible.")
    ] = 10,
) -> None:
    """Count the dead letters by stage and reason, and print the newest."""
    from producer.dlq.show import show

    show(load_settings(Settings), last)


@app.command("dlq-redrive")
def dlq_redrive(
    reason: Annotated[str, typer.Option(envvar="REASON", help="Those that failed for this reason.")] = "",
    stage: Annotated[str, typer.Option(envvar="STAGE", help="Those that failed there: producer, bronze, scorer.")] = "",
    offset: Annotated[
        str, typer.Option(envvar="OFFSET", help="This one: PARTITION-OFFSET in the dead letter topic.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", envvar="ALL", help="All of them.")] = False,
    change: Annotated[
        str, typer.Option("--set", envvar="SET", help="Repair before sending: FIELD=VALUE, or a JSON object.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", envvar="FORCE", help="Send those of --offset also after too many attempts.")
    ] = False,
    go: Annotated[
        bool, typer.Option("--go", envvar="GO", help="Send them; without it nothing is sent (dry run).")
    ] = False,
) -> None:
    """Send dead letters back to the topic they were meant for. Without --go it only prints what it would send.

    Reasons, stages and offsets may be several, divided by commas. A reason and a stage together choose what has both.
    """
    from producer.dlq.redrive import redrive
    from producer.dlq.repair import parse_changes
    from producer.dlq.selection import parse_selection

    selection = parse_selection(reason=reason, stage=stage, offset=offset, every=every, force=force)
    redrive(load_settings(Settings), selection, parse_changes(change), go=go)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    with one_line_errors():
        app()


if __name__ == "__main__":
    main()
