"""How much the fraud database keeps, and whether the nightly maintenance drops what is old."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from fraud_common.days import TABLES, midnight, partitions
from psycopg2.extensions import connection as Connection

# The tree is empty for a table without partitions.
SIZE = """
select coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size(%(table)s))::bigint
from pg_partition_tree(%(table)s)
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A table with its indexes: its size in bytes, and when its oldest partition ended (None: it has none)."""

    table: str
    size: int
    oldest_end: datetime | None = None

    def overdue_days(self, today: date, keep_days: int) -> int:
        """For how many days the oldest partition should have been gone."""
        if self.oldest_end is None:
            return 0
        return max(0, (midnight(today - timedelta(days=keep_days)) - self.oldest_end).days)


def kept(connection: Connection) -> list[Kept]:
    """The tables that grow with the payments."""
    found = []
    with connection, connection.cursor() as cursor:
        for table in (*TABLES, "labels"):
            days = partitions(cursor, table)
            cursor.execute(SIZE, {"table": table})
            ((size,),) = cursor.fetchall()
            found.append(Kept(table, size, days[0].end if days else None))
    return found
