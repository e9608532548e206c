"""Commands on the model registry: list the versions, roll back to the previous one, or delete old ones.

python -m training.models list|rollback|prune
"""

import argparse
import sys
from datetime import UTC, datetime

from fraud_common.errors import one_line_errors
from fraud_common.settings import load_settings

from training import registry
from training.prune import prune
from training.settings import Settings

LINE = "{:>7}  {:<11} {:<20} {:>7} {:>9} {:>9}  {:<16}  {}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.models", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="all versions with stage and metrics")
    listing.add_argument(
        "--has-production", action="store_true", help="print nothing; exit with 1 if no version serves"
    )
    commands.add_parser("rollback", help="put the previous Production version back")
    commands.add_parser("prune", help="delete versions and runs older than MODEL_RETENTION_DAYS that nothing needs")
    arguments = parser.parse_args()
    with one_line_errors():
        settings = load_settings(Settings)
        client = registry.connect(settings)
        if arguments.command == "rollback":
            before, now = registry.rollback(client)
            print(f"version {before} → Archived, version {now} → Production; the API loads it within seconds")
        elif arguments.command == "prune":
            prune(client, settings.model_retention_days, datetime.now(UTC))
        elif arguments.has_production:
            sys.exit(0 if registry.in_production(client) else 1)
        else:
            show(client)


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
        aliases = ", ".join(version.aliases) or "–"
        decision = version.tags.get("decision", "")
        if registry.ROLLED_BACK in version.tags:
            decision = f"rolled back {version.tags[registry.ROLLED_BACK]:.16}; {decision}"
        print(
            LINE.format(
                version.version,
                version.current_stage,
                aliases,
                *(_figure(metrics.get(name)) for name in ("auc_roc", "average_precision", "card_precision_at_100")),
                f"{trained:%Y-%m-%d %H:%M}",
                decision,
            )
        )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    main()
