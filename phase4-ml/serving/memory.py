"""How much memory the API needs: a limit for fewer workers would have the kernel kill one after the other."""

from fraud_common.errors import UserError
from fraud_common.memory import read_memory

# infra/docker/memory_limits.sh reads both. Two workers with a forest were measured at 312 MiB, one without at 72 MiB.
# What compiles rules takes 28 MiB of each worker, and 50,000 entries of lists up to 16 (RULES_MAX_LIST_ENTRIES).
BASE_MIB = 64
WORKER_MIB = 224


def require_memory(workers: int) -> None:
    """Do nothing if the container has room for so many workers.

    Raises:
        UserError: it has not.
    """
    needed, limit = BASE_MIB + WORKER_MIB * workers, read_memory().limit_mib
    if limit is not None and limit < needed:
        raise UserError(
            f"API_WORKERS={workers} needs a container of {needed:,} MiB, and this one has {limit:,}: "
            f"make up sets API_MEM_LIMIT={needed}m in .env"
        )
