"""Fixtures for what runs on a hosted Postgres: real pg_cron, and doubles of pg_net and Vault.

tests/conftest.py loads them, so that every folder of tests has them.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from pgqueue import Client

from .cron_server import MISSING, CronServer, programs, running
from .database import Sql, until
from .net_double import Sender

A_MINUTE = 75
"""Seconds within which pg_cron starts what comes every minute."""
_RUNS = """
select d.status, d.return_message from cron.job_run_details d
join cron.job j using (jobid)
where split_part(split_part(j.jobname::text, '@', 1), '.', 2) = %s and d.end_time is not null
order by d.runid desc
"""


@attrs.frozen
class Hosted:
    """A database with pg_cron and the double of pg_net, which sends what is committed.

    Nothing of pgqueue is in it yet.
    """

    dsn: str
    sql: Sql
    sender: Sender

    def runs(self, job: str) -> list[tuple[str, str]]:
        """Status and message of the runs of a job that have ended, the latest first.

        `job` is named as in `pgqueue cron`: `upkeep`, or `poke:` and the endpoint's name.
        """
        return [(status, message or "") for status, message in self.sql(_RUNS, job)]

    def wait_for_run(self, job: str, *, more: int = 1, seconds: float = A_MINUTE) -> None:
        """Waits until pg_cron has ended so many more runs of a job, well or not.

        Its clock has minutes: mark the test with `timeout(150)`, and wait but once.
        """
        wanted = len(self.runs(job)) + more
        until(lambda: len(self.runs(job)) >= wanted, seconds)


@pytest.fixture(scope="session")
def cron_server() -> Iterator[CronServer]:
    """See `CronServer`. Its tests share one database, which each leaves clear."""
    folder = programs()
    if folder is None:
        pytest.skip(MISSING)
    with running(folder) as server:
        yield server


@pytest.fixture
def cron_client(cron_server: CronServer) -> Iterator[Client]:
    """A client of a new queue in the database of pg_cron, with the doubles beside it."""
    sql = Sql(cron_server.dsn())
    with Client(cron_server.dsn()) as client:
        client.migrate()
        sql.double("net")
        yield client
    sql.conn.close()
    cron_server.clear()


@pytest.fixture
def hosted(cron_server: CronServer) -> Iterator[Hosted]:
    """See `Hosted`. For Vault as well: `hosted.sql.double("vault")`."""
    sql = Sql(cron_server.dsn())
    sql.double("net")
    sender = Sender(sql.dsn)
    sender.start()
    yield Hosted(sql.dsn, sql, sender)
    sender.stop()
    sql.conn.close()
    cron_server.clear()
