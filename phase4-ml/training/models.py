"""The registry for a person: what versions there are, and the way back.

python -m training.models list|rollback
"""

import argparse
import sys
from datetime import UTC, datetime

from training import registry
from fraud_common.errors import UserError
from training.settings import load_settings

LINE = "{:>7}  {:<11} {:<20} {:>7} {:>9} {:>9}  {:<16}  {}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.models", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="all versions with stage and metrics")
    listing.add_argument("--has-production", action="store_true", help="only say by the exit code whether one serves")
    commands.add_parser("rollback", help="the version that was Production before is Production again")
    arguments = parser.parse_args()
    try:
        client = registry.connect(load_settings())
        if arguments.command == "rollback":
            before, now = registry.rollback(client)
            print(f"version {before} → Archived, version {now} → Production; the API takes it up within seconds")
        elif arguments.has_production:
            sys.exit(0 if registry.in_production(client) else 1)
        else:
            show(client)
    except UserError as error:
        sys.exit(f"error: {error}")


def show(client: registry.mlflow.MlflowClient) -> None:
    """Print one line for each version, the newest first."""
    found = registry.versions(client)
    if not found:
        print("no model yet: make ml-train")
        return
    print(LINE.format("version", "stage", "aliases", "AUC", "avg prec", "card@100", "trained (UTC)", "decision"))
    for version in found:
        metrics = registry.metrics_of(client, version)
        trained = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
        numbers = (metrics.get(n) for n in ("auc_roc", "average_precision", "card_precision_at_100"))
        auc, average_precision, cards = ("–" if n is None else f"{n:.4f}" for n in numbers)
        aliases = ", ".join(version.aliases) or "–"
        decision = version.tags.get("decision", "")
        if registry.ROLLED_BACK in version.tags:
            decision = f"rolled back {version.tags[registry.ROLLED_BACK]:.16}; {decision}"
        print(
            LINE.format(
                version.version,
                version.current_stage,
                aliases,
                auc,
                average_precision,
                cards,
                f"{trained:%Y-%m-%d %H:%M}",
                decision,
            )
        )


if __name__ == "__main__":
    main()
