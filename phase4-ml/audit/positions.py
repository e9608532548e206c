"""The order in which predictions are stored, for readers that continue where they stopped.

Each row of `predictions` has a position from a sequence. Two workers store at the same time, so a row can appear after
one with a higher position; a reader therefore asks `stored_until`, below which no row appears any more.
"""

from psycopg2.extensions import connection as Connection

# A transaction that stores predictions starts with this; transactions do not wait for each other.
STORING = "select pg_advisory_xact_lock_shared(hashtext('predictions_position'))"

# It waits for the transactions that store now, a few milliseconds. They do not wait longer for it than the timeout.
_WAIT = """
set local lock_timeout = '2s';
select pg_advisory_xact_lock(hashtext('predictions_position'));
"""
_NEWEST = "select case when is_called then last_value else 0 end from predictions_position"


def stored_until(connection: Connection) -> int:
    """The position up to which every prediction is in the table; 0 if there is none.

    Raises:
        psycopg2.errors.LockNotAvailable: a transaction that stores predictions has not ended within 2 seconds.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(_WAIT)
        cursor.execute(_NEWEST)
        ((position,),) = cursor.fetchall()
        return position
