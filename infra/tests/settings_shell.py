"""The shell functions that read and write .env, run for a checkout of the tests' own."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER, SCRIPTS = ROOT / "infra/docker", ROOT / "infra/scripts"


def bash(script: str, root: Path, **environment: str) -> str:
    """The output of a script that has the functions of settings.sh and env_file.sh, for a checkout at `root`."""
    preamble = f"""
        set -euo pipefail
        ROOT={root}
        cd {root}
        say() {{ echo "say: $*" >&2; }}
        warn() {{ echo "warn: $*" >&2; }}
        source {DOCKER}/settings.sh
        source {SCRIPTS}/env_file.sh
    """
    done = subprocess.run(
        ["bash", "-c", preamble + script],
        env={"PATH": os.environ["PATH"]} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
