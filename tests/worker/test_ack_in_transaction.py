"""`job.ack(conn=...)`: the handler's own writes and the ack happen together or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import Client, ConfigurationError, Constant, Handlers, Job, LeaseLost, Snooze

from .helpers import SECOND, Database, Log, drain, state, until, working

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _effects(database: Database) -> Iterator[None]:
    """A table for what handlers do."""
    database.query("drop table if exists public.effect")
    database.query("create table public.effect (job bigint)")
    yield
    database.query("drop table public.effect")


def effects(database: Database) -> int:
    """How often handlers did their work, as far as it was committed."""
    ((count,),) = database.query("select count(*) from public.effect")
    return int(count)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("autocommit", [False, True])
def test_effects_and_ack_are_committed_together(
    client: Client, handlers: Handlers, database: Database, way: str, *, autocommit: bool
) -> None:
    """The job has succeeded with its result, and the worker leaves it alone."""
    dsn = client.dsn
    log = Log(handlers)
    if way == "sync":

        @handlers.register("a")
        def handler(job: Job[Any]) -> str:
            with psycopg.connect(dsn, autocommit=autocommit) as conn:
                conn.execute("insert into effect values (%s)", [job.id])
                job.ack(conn=conn, result={"done": True})
            return "ignored"
    else:

        @handlers.register("a")
        async def handler(job: Job[Any]) -> str:
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=autocommit) as conn:
                await conn.execute("insert into effect values (%s)", [job.id])
                await job.ack(conn=conn, result={"done": True})
            return "ignored"

    job_id = client.enqueue("a").id
    assert drain(client, handlers) == 0
    assert effects(database) == 1
    assert (state(client, job_id), client.get(job_id).result) == ("succeeded", {"done": True})
    assert log.outcomes == ["succeeded"]


def test_rollback_with_an_exception_fails_the_attempt(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Nothing was written, and the job is tried again by its policy."""

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        with psycopg.connect(client.dsn) as conn:
            conn.execute("insert into effect values (%s)", [job.id])
            job.ack(conn=conn)
            raise ValueError("after the ack")

    job_id = client.enqueue("a", retry=Constant(HOUR)).id
    drain(client, handlers)
    assert effects(database) == 0
    assert state(client, job_id) == "scheduled"
    assert client.get(job_id).history[0].error == "after the ack"


def test_rollback_that_the_handler_hides_fails_the_attempt(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Acked, rolled back, and returned as if all were well: the job must not be taken for done."""
    log = Log(handlers)

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        with psycopg.connect(client.dsn) as conn:
            conn.execute("insert into effect values (%s)", [job.id])
            job.ack(conn=conn)
            conn.rollback()
            if job.attempt == 2:
                conn.execute("insert into effect values (%s)", [job.id])
                job.ack(conn=conn)

    job_id = client.enqueue("a", retry=Constant(timedelta(milliseconds=1))).id
    drain(client, handlers)
    until(lambda: drain(client, handlers) == 0 and state(client, job_id) == "succeeded")
    assert effects(database) == 1
    assert client.get(job_id).history[0].error_class == "AckRolledBack"
    assert log.outcomes == ["failed", "succeeded"]


@pytest.mark.parametrize("returned", [Snooze(HOUR), ValueError("late")])
def test_what_happens_after_a_committed_ack_is_ignored(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture, returned: Any
) -> None:
    """The job stays done, and the log says so."""
    log = Log(handlers)

    @handlers.register("a")
    def handler(job: Job[Any]) -> object:
        with psycopg.connect(client.dsn) as conn:
            job.ack(conn=conn)
        if isinstance(returned, Exception):
            raise returned
        return returned

    job_id = client.enqueue("a").id
    drain(client, handlers)
    assert state(client, job_id) == "succeeded"
    assert log.outcomes == ["succeeded"]
    assert "is ignored" in caplog.text


def test_fenced_handler_writes_nothing(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """One whose lease ran out while it worked gets LeaseLost, and its transaction is undone."""
    errors: list[Exception] = []
    attempts: list[int] = []

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        attempts.append(job.attempt)
        if job.attempt == 1:
            database.expire(job.id)
        with psycopg.connect(client.dsn) as conn:
            conn.execute("insert into effect values (%s)", [job.id])
            try:
                job.ack(conn=conn)
            except LeaseLost as error:
                errors.append(error)
                raise

    job_id = client.enqueue("a", retry=Constant(timedelta(milliseconds=1), jitter=0)).id
    until(lambda: drain(client, handlers) == 0 and state(client, job_id) == "succeeded")
    assert attempts == [1, 2]
    assert len(errors) == 1
    assert effects(database) == 1


def test_open_transaction_holds_up_nobody_else(
    client: Client, handlers: Handlers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that returns before it commits delays its own job's end only."""
    conn = psycopg.connect(client.dsn)

    @handlers.register("a")
    def forgetful(job: Job[Any]) -> None:
        job.ack(conn=conn)

    @handlers.register("b")
    async def other(_: Job[Any]) -> None:
        await asyncio.sleep(0)

    first = client.enqueue("a").id
    with working(client, handlers):
        until(lambda: "has to wait" in caplog.text)
        others = [client.enqueue("b").id for _ in range(20)]
        until(lambda: all(state(client, job) == "succeeded" for job in others))
        conn.commit()
        conn.close()
        until(lambda: state(client, first) == "succeeded")
        until(lambda: not database.query("select 1 from job"))


def test_long_transaction_costs_no_other_lease(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """A handler acks first and works on: its row is locked, and the heartbeat must not wait."""
    runs: list[int] = []

    @handlers.register("a")
    def acks_first(job: Job[Any]) -> None:
        with psycopg.connect(client.dsn) as conn:
            job.ack(conn=conn)
            conn.execute("select pg_sleep(2.5)")

    @handlers.register("b")
    async def other(job: Job[Any]) -> None:
        runs.append(job.id)
        await asyncio.sleep(2.5)

    jobs = [client.enqueue("a").id, client.enqueue("b").id]
    drain(client, handlers, lease=SECOND)
    assert [state(client, job) for job in jobs] == ["succeeded"] * 2
    assert len(runs) == 1
    assert not database.query("select 1 from archive where attempt > 1")


def test_wrong_connection_is_refused(client: Client, handlers: Handlers) -> None:
    """The error says what to pass."""
    errors: list[Exception] = []

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        try:
            job.ack(conn=object())
        except ConfigurationError as error:
            errors.append(error)

    client.enqueue("a")
    drain(client, handlers)
    assert "pass a psycopg" in str(errors[0])


def test_ack_on_sqlalchemy_sessions(client: Client, handlers: Handlers, database: Database) -> None:
    """Sync in a thread, async on the loop: the session's transaction has the ack in it."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asyncio_part = pytest.importorskip("sqlalchemy.ext.asyncio", exc_type=ImportError)
    orm = pytest.importorskip("sqlalchemy.orm")

    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        query={
            key: value
            for key, value in psycopg.conninfo.conninfo_to_dict(client.dsn).items()
            if key in ("host", "port", "dbname", "user")
        },
    )

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        engine = sqlalchemy.create_engine(url)
        with orm.Session(engine) as session:
            session.execute(sqlalchemy.text("insert into effect values (1)"))
            job.ack(conn=session)
            session.commit()
        engine.dispose()

    @handlers.register("b")
    async def async_handler(job: Job[Any]) -> None:
        engine = asyncio_part.create_async_engine(url)
        async with asyncio_part.AsyncSession(engine) as session:
            await session.execute(sqlalchemy.text("insert into effect values (1)"))
            await job.ack(conn=session)
            await session.commit()
        await engine.dispose()

    jobs = [client.enqueue(kind, max_attempts=1).id for kind in "ab"]
    drain(client, handlers)
    assert [state(client, job) for job in jobs] == ["succeeded"] * 2
    assert effects(database) == 2


def test_rolled_back_ack_whose_lease_is_gone_too_writes_nothing(
    client: Client, handlers: Handlers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is known to be held, so nothing is sent; another attempt will do it."""
    caplog.set_level(logging.INFO)

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        if job.attempt > 1:
            return
        with psycopg.connect(client.dsn) as conn:
            job.ack(conn=conn)
            conn.rollback()
        database.expire(job.id)

    job_id = client.enqueue("a", retry=Constant(timedelta(milliseconds=1))).id
    until(lambda: drain(client, handlers) == 0 and state(client, job_id) == "succeeded")
    assert client.get(job_id).attempt == 2
