"""The command line: runs until SIGTERM."""

from fraud_common.service import run_service

from scorer.scorer import run
from scorer.settings import ScorerSettings

if __name__ == "__main__":
    run_service(ScorerSettings, run)
