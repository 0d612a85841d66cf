"""What the write-ahead log tells, read back record by record with pg_walinspect.

It is the whole cluster's; while one system is measured, nobody else writes to it but the server.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs
from benchmarks.peers.cluster import Cluster

# Each of these records adds one entry to a leaf page (a split, with the page that it makes).
COUNTS = """
    select coalesce(sum(combined_size), 0)::float8, coalesce(sum(count), 0)::float8,
           coalesce(sum(count) filter (where "resource_manager/record_type" in
               ('Btree/INSERT_LEAF', 'Btree/INSERT_POST', 'Btree/SPLIT_L', 'Btree/SPLIT_R')),
               0)::float8
    from pg_get_wal_stats(%s, %s, true)
"""
# A subquery, not a join: as a join it would be computed again for each commit.
LAST_COMMIT = r"""
    with record as materialized (
        select * from pg_get_wal_records_info(%s, %s)
        where resource_manager in ('Heap', 'Transaction')
    )
    select extract(epoch from split_part(description, ';', 1)::timestamptz)::float8
    from record
    where record_type = 'COMMIT' and start_lsn > (
        select max(start_lsn) from record
        where resource_manager = 'Heap' and record_type ~ '^(INSERT|DELETE|UPDATE|HOT_UPDATE)'
        and block_ref ~ %s
    )
    order by start_lsn limit 1
"""


@attrs.frozen
class Counts:
    """What was written in a stretch of the log."""

    size: float
    """Bytes, images of whole pages included."""
    records: float
    index_entries: float
    """Entries added to B-trees."""


def position(cluster: Cluster) -> str:
    """Where the log ends now, as far as it is on disk."""
    return str(cluster.scalar("select pg_current_wal_flush_lsn()"))


def counts(cluster: Cluster, start: str, end: str) -> Counts:
    """What was written between two positions."""
    row = cluster.admin.execute(COUNTS.encode(), (start, end)).fetchone()
    return Counts(*row) if row else Counts(0, 0, 0)


def last_commit(cluster: Cluster, start: str, files: Collection[int]) -> float | None:
    """When the last row of one of the tables was added, updated or deleted, and committed.

    Args:
        cluster: the server.
        start: the position to look from.
        files: the file numbers of the tables.

    Returns:
        Seconds since 1970: the time that the first commit record after that change bears. None
        if there is none.
    """
    blocks = rf"/({'|'.join(str(file) for file in files)}) fork main"
    found = cluster.scalar(LAST_COMMIT, (start, position(cluster), blocks))
    return None if found is None else float(found)
