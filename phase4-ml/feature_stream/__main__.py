"""The command line: runs until SIGTERM."""

from fraud_common.service import run_service

from feature_stream.settings import StreamSettings
from feature_stream.stream import run

if __name__ == "__main__":
    run_service(StreamSettings, run)
