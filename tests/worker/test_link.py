"""A worker's connections: remade, never waited for without end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from pgqueue import Client, DatabaseUnavailable, InvalidJob, SchemaMissing
from pgqueue.drivers import AsyncDriver
from pgqueue.guarded import impatient
from pgqueue.statements import Statement, Statements
from pgqueue.worker import link as module
from pgqueue.worker.link import Link

from .helpers import Database


def select(text: str) -> Statement[Any]:
    """A statement that gives its first value."""
    return Statement(text, (), lambda rows: rows[0][0])


def make(dsn: str, schema: str = "pgqueue", **options: Any) -> Link:
    """A link of its own."""
    return Link(AsyncDriver(dsn, schema, 1), "test", **options)


@pytest.mark.direct("the session that ends is the pooler's")
def test_lost_connection_is_remade_with_the_next_statement(
    client: Client, database: Database
) -> None:
    """The one under way is told as DatabaseUnavailable."""

    async def main() -> None:
        link = make(client.dsn)
        first = await link.try_run(select("select pg_backend_pid()"))
        database.query("select pg_terminate_backend(%s)", first)
        with pytest.raises(DatabaseUnavailable):
            await link.try_run(select("select 1"))
        assert await link.try_run(select("select pg_backend_pid()")) != first
        await link.close()
        await link.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "text, error",
    [
        ("select 1/0", psycopg.DataError),
        ("select pgqueue.enqueue('no name')", InvalidJob),
        ("select nothing()", Exception),
        pytest.param(
            "select pg_sleep(10)",
            psycopg.errors.QueryCanceled,
            marks=pytest.mark.direct("the timeout is of a session"),
        ),
    ],
)
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_link_works_after_any_error(
    client: Client, text: str, error: type[Exception], isolation: str
) -> None:
    """Also where each statement is a transaction that an error leaves broken."""
    level = isolation.replace(" ", "\\ ")
    options = f"-c statement_timeout=200 -c default_transaction_isolation={level}"
    dsn = conninfo.make_conninfo(client.dsn, options=options)

    async def main() -> None:
        link = make(dsn)
        for _ in range(2):
            with pytest.raises(error):
                await link.try_run(select(text))
            assert await link.try_run(select("select 2")) == 2
        await link.close()

    asyncio.run(main())


@pytest.mark.direct("the settings are of a session")
def test_read_only_server_is_left(client: Client) -> None:
    """After a failover the old primary is a standby: the connection is of no use."""
    dsn = conninfo.make_conninfo(client.dsn, options="-c default_transaction_read_only=on")

    async def main() -> None:
        link = make(dsn)
        with pytest.raises(DatabaseUnavailable):
            await link.try_run(Statements("pgqueue").maintain())
        assert link._conn is None

    asyncio.run(main())


def test_errors_get_pgqueues_own_names(client: Client) -> None:
    """A schema that is not there is told as such."""

    async def main() -> None:
        link = make(client.dsn, "elsewhere")
        with pytest.raises(SchemaMissing):
            await link.try_run(Statements("elsewhere").maintain())
        await link.close()

    asyncio.run(main())


class BlackHole:
    """A proxy before a server's socket, which swallows everything once it is told to."""

    def __init__(self, near: Path, far: str) -> None:
        self.swallow = threading.Event()
        self._far = far
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(near))
        self._listener.listen()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._far)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.swallow.is_set():
                    target.sendall(data)

    def close(self) -> None:
        """Ends all connections."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def black_hole(client: Client, tmp_path: Path) -> Iterator[tuple[str, threading.Event]]:
    """A DSN through a black hole, and the event that opens it."""
    given = conninfo.conninfo_to_dict(client.dsn)
    if not str(given["host"]).startswith("/"):
        pytest.skip("the server has no socket in the file system")
    hole = BlackHole(tmp_path / ".s.PGSQL.5432", f"{given['host']}/.s.PGSQL.{given['port']}")
    yield conninfo.make_conninfo(client.dsn, host=str(tmp_path), port="5432"), hole.swallow
    hole.close()


def test_server_that_does_not_answer_is_given_up(
    black_hole: tuple[str, threading.Event],
) -> None:
    """A half-open connection ends after the reply timeout, and so does the next attempt."""
    dsn, swallow = black_hole

    async def main() -> None:
        link = make(dsn, reply_timeout=0.3)
        assert await link.try_run(select("select 1")) == 1
        swallow.set()
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                await link.try_run(select("select 1"))
            assert time.monotonic() - started < 3
        swallow.clear()
        assert await link.try_run(select("select 1")) == 1
        await link.close()

    asyncio.run(main())


def test_cut_ends_the_statement_under_way(client: Client) -> None:
    """At once, with an error; without a statement nothing happens."""

    async def main() -> None:
        link = make(client.dsn)
        link.cut()
        await link.connection()
        asyncio.get_running_loop().call_later(0.05, link.cut)
        with pytest.raises(DatabaseUnavailable):
            await link.try_run(select("select pg_sleep(10)"))

    asyncio.run(main())


def test_killed_link_can_be_cancelled_without_delay(client: Client) -> None:
    """Psycopg does not try to talk to the server first."""

    async def main() -> None:
        link = make(client.dsn)
        link.kill()
        task = asyncio.ensure_future(link.try_run(select("select pg_sleep(10)")))
        await asyncio.sleep(0.1)
        link.kill()
        task.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 1

    asyncio.run(main())


def test_run_waits_until_the_database_is_back(
    client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With growing pauses; a lost race is run again at once."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    ((first,),) = database.query("select count(*) from pg_stat_activity")
    del first

    async def main() -> None:
        link = make(client.dsn)
        errors: list[Exception] = [
            DatabaseUnavailable("gone"),
            psycopg.errors.DeadlockDetected("locked"),
            SchemaMissing("pgqueue"),
        ]
        real = link.try_run

        async def try_run(statement: Any) -> Any:
            if errors:
                raise errors.pop()
            return await real(statement)

        monkeypatch.setattr(link, "try_run", try_run)
        assert await link.run(select("select 1")) == 1
        await link.close()

    asyncio.run(main())


def test_pauses_grow_up_to_a_limit(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the purpose, the error and the pause."""
    link = make(client.dsn)
    pauses = [link.pause_after(DatabaseUnavailable("gone")) for _ in range(12)]
    assert pauses[0] < 0.2
    assert max(pauses) <= module.LONGEST_PAUSE
    assert pauses[-1] >= module.LONGEST_PAUSE / 2
    assert "test: gone; next attempt in" in caplog.text


@pytest.mark.parametrize("what", ["ack", "fail", "extend", "release", "snooze", "skip"])
def test_impatient_statement_does_not_wait_for_a_lock(client: Client, what: str) -> None:
    """It fails soon, writes nothing, and does the same as ever when nobody is in its way."""
    for _ in range(3):
        client.enqueue("a")
    jobs = client.claim(limit=3)
    make_statement = Statements("pgqueue")
    statements: dict[str, Callable[[], Any]] = {
        "ack": lambda: make_statement.ack(jobs, None),
        "fail": lambda: make_statement.fail(jobs, [{"message": "x"}] * 3, None),
        "extend": lambda: make_statement.extend(
            [(job.id, job.token) for job in jobs], timedelta(seconds=5)
        ),
        "release": lambda: make_statement.release(jobs),
        "snooze": lambda: make_statement.snooze(jobs, [timedelta(0)] * 3),
        "skip": lambda: make_statement.skip(jobs, [""] * 3),
    }
    statement = statements[what]()

    async def main() -> None:
        link = make(client.dsn)
        with psycopg.connect(client.dsn) as conn:
            conn.execute("select from pgqueue.job where id = %s for update", [jobs[1].id])
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await link.try_run(impatient(statement, 0.02))
        before = await link.try_run(select("show lock_timeout"))
        assert before == "0"
        done = await link.try_run(impatient(statement, 0.02))
        assert len(done) == (3 if what == "extend" else 0)
        await link.close()

    asyncio.run(main())
