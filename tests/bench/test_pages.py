"""The measures of lists, on few jobs."""

from __future__ import annotations

from datetime import timedelta

import psycopg
from benchmarks.pages import __main__ as pages

from pgqueue import Client, JobFilter, JobState


def test_every_list_is_measured_and_finds_what_it_is_for(pgqueue_client: Client) -> None:
    """Among jobs of all the kinds that are stored, in the partitions of ten days."""
    with psycopg.connect(pgqueue_client.dsn, autocommit=True) as conn:
        pages.fill(conn, 2_000, 1_000)
        held = conn.execute(
            "select (select count(*) from pgqueue.archive), (select count(*) from pgqueue.job), "
            "(select count(*) from only pgqueue.archive_done_default)"
        ).fetchone()
    assert held == (2_000, 1_000, 0)
    operations = pgqueue_client.operations
    assert operations.count(JobFilter(state=JobState.DEAD)).number == 2
    assert operations.count(JobFilter(state="scheduled")).number == 100
    pgqueue_client.claim("q3", limit=10)
    for name, call in pages.searches(pgqueue_client).items():
        found = pages.timed(call, 1)
        assert found is not None, name
        assert found[0] <= found[1], name


def test_what_takes_too_long_is_said(pgqueue_client: Client) -> None:
    """A search that gave up has no figures."""
    operations = pgqueue_client.operations
    with psycopg.connect(pgqueue_client.dsn) as conn:
        conn.execute("lock table pgqueue.job in access exclusive mode")
        deadline = timedelta(milliseconds=50)
        assert pages.timed(lambda: operations.search(deadline=deadline), 1) is None
