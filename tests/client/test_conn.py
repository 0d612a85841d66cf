"""`conn=`: a connection of the caller's, whose transaction decides."""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row, namedtuple_row, scalar_row
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio

import pgqueue
from pgqueue import AsyncClient, Client

Connect = Callable[..., psycopg.Connection[Any]]


@pytest.mark.parametrize("autocommit", [False, True])
def test_enqueue_happens_with_the_callers_commit(
    client: Client, connect: Connect, *, autocommit: bool
) -> None:
    """Not before it, and not at all if the transaction is rolled back."""
    conn = connect(autocommit=autocommit)
    with conn.transaction():
        job_id = client.enqueue("a", conn=conn).id
        assert client.list() == []
    assert client.get(job_id).kind == "a"
    with pytest.raises(ZeroDivisionError), conn.transaction():
        client.enqueue("b", conn=conn)
        raise ZeroDivisionError
    assert client.list(kind="b") == []


def test_whole_life_on_one_connection(client: Client, connect: Connect) -> None:
    """Every operation takes it, and sees what the others did on it."""
    conn = connect()
    client.enqueue("a", conn=conn)
    client.enqueue_many([("a", n) for n in range(300)], conn=conn)
    jobs = client.claim(limit=301, conn=conn)
    assert set(client.extend(jobs, conn=conn).values()) == {False}
    client.ack(jobs[0], conn=conn)
    client.fail(jobs[1], conn=conn)
    client.skip(jobs[2], conn=conn)
    client.release(jobs[3:], conn=conn)
    assert client.stats(conn=conn)[0].ready == 298
    assert client.schema_state(conn=conn).current
    assert client.stats() == []
    conn.commit()
    assert client.stats()[0].ready == 298


@pytest.mark.parametrize("row_factory", [dict_row, namedtuple_row, scalar_row])
@pytest.mark.parametrize("cursors", ["Cursor", "ClientCursor", "RawCursor"])
def test_callers_own_settings_do_not_matter(
    flavour: str, client: Client, connect: Connect, row_factory: Any, cursors: str
) -> None:
    """Neither how it wants rows nor how it binds parameters; and both are left as they were."""
    factory = getattr(psycopg, cursors if flavour == "sync" else f"Async{cursors}")
    conn = connect(row_factory=row_factory, cursor_factory=factory)
    job_id = client.enqueue("a", {"n": 1}, conn=conn).id
    client.enqueue_many([("b", n) for n in range(300)], conn=conn)
    conn.commit()
    (job,) = client.claim(kinds=["a"], conn=conn)
    assert (job.id, job.payload, job.run_at.tzinfo is None) == (job_id, {"n": 1}, False)
    client.ack(job, conn=conn)
    conn.commit()
    assert client.stats(conn=conn)[0].ready == 300
    bare = getattr(conn, "bare", conn)
    assert (bare.row_factory, bare.cursor_factory) == (row_factory, factory)


def test_conn_of_another_kind_is_refused(client: Client, pgqueue_dsn: str, flavour: str) -> None:
    """The message names what was given and what is wanted."""
    wanted = "Connection" if flavour == "sync" else "AsyncConnection"
    other = sqlite3.connect(":memory:")
    elsewhere = sqlalchemy.create_engine("sqlite://")
    third = elsewhere.connect()
    for wrong in (7, other, third):
        with pytest.raises(pgqueue.ConfigurationError, match=rf"\(version 3\) {wanted},"):
            client.enqueue("a", conn=wrong)
        with pytest.raises(pgqueue.ConfigurationError):
            client.enqueue_many([("a", {})], conn=wrong)
    third.close()
    elsewhere.dispose()
    other.close()
    if flavour == "async":
        with psycopg.connect(pgqueue_dsn) as conn, pytest.raises(pgqueue.ConfigurationError):
            client.enqueue("a", conn=conn)


# SQLAlchemy


@pytest.fixture
def engine(pgqueue_dsn: str) -> Iterator[sqlalchemy.Engine]:
    """An engine of the test's database."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(pgqueue_dsn)
    )
    yield engine
    engine.dispose()


def test_sqlalchemy_session(pgqueue_client: Client, engine: sqlalchemy.Engine) -> None:
    """Enqueue and ack join its transaction, also where it has not begun yet."""
    with orm.Session(engine) as session:
        pgqueue_client.enqueue("a", conn=session)
        pgqueue_client.enqueue_many([("b", n) for n in range(300)], conn=session)
        session.execute(sqlalchemy.text("select 1"))
        assert pgqueue_client.list() == []
        session.rollback()
        assert pgqueue_client.list() == []
        pgqueue_client.enqueue("a", conn=session)
        session.commit()
        (job,) = pgqueue_client.claim()
        job.ack(conn=session)
        session.rollback()
        assert pgqueue_client.get(job.id).state == "claimed"
        job.ack(conn=session)
        session.commit()
    assert pgqueue_client.get(job.id).state == "succeeded"


def test_sqlalchemy_scoped_session(pgqueue_client: Client, engine: sqlalchemy.Engine) -> None:
    """As web frameworks use it."""
    session = orm.scoped_session(orm.sessionmaker(engine))
    job_id = pgqueue_client.enqueue("a", conn=session).id
    session.commit()
    session.remove()
    assert pgqueue_client.get(job_id).kind == "a"


def test_sqlalchemy_connection(pgqueue_client: Client, engine: sqlalchemy.Engine) -> None:
    """Enqueue joins its transaction; a failed bulk leaves it usable."""
    with engine.begin() as connection:
        pgqueue_client.enqueue("a", conn=connection)
        with pytest.raises(pgqueue.InvalidJob):
            pgqueue_client.enqueue_many([("a", {})] * 2001 + [("a b", {})], conn=connection)
        connection.execute(sqlalchemy.text("create table t (n int)"))
    assert len(pgqueue_client.list()) == 1
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        pgqueue_client.enqueue("a", conn=connection)
        raise ZeroDivisionError
    assert len(pgqueue_client.list()) == 1


def test_sqlalchemy_asyncio(pgqueue_async_client: AsyncClient, pgqueue_dsn: str) -> None:
    """Its async sessions and connections serve the async client."""
    client = pgqueue_async_client

    async def main() -> None:
        engine = sqlalchemy_asyncio.create_async_engine(
            "postgresql+psycopg://",
            async_creator=lambda: psycopg.AsyncConnection.connect(pgqueue_dsn),
        )
        async with sqlalchemy_asyncio.AsyncSession(engine) as session:
            await client.enqueue("a", conn=session)
            await client.enqueue_many([("b", n) for n in range(300)], conn=session)
            await session.rollback()
            assert await client.list() == []
            await session.execute(sqlalchemy.text("select 1"))
            await client.enqueue("a", conn=session)
            await session.commit()
            (job,) = await client.claim()
            await client.ack(job, conn=session)
            await session.commit()
            assert (await client.get(job.id)).state == "succeeded"
        async with engine.begin() as connection:
            await client.enqueue("c", conn=connection)
        scoped = sqlalchemy_asyncio.async_scoped_session(
            sqlalchemy_asyncio.async_sessionmaker(engine), scopefunc=asyncio.current_task
        )
        await client.enqueue("d", conn=scoped)
        await scoped.commit()
        await scoped.remove()
        assert [job.kind for job in await client.list()] == ["d", "c", "a"]
        await engine.dispose()
        await client.close()

    asyncio.run(main())


# Django


@pytest.fixture(scope="module")
def django_databases() -> Any:
    """Django's connections, set up once for this process."""
    django = pytest.importorskip("django")
    settings = importlib.import_module("django.conf").settings
    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
            USE_TZ=False,
        )
        django.setup()
    return importlib.import_module("django.db").connections


@pytest.fixture(params=[False, True], ids=["client-side", "server-side"])
def django_connection(
    request: pytest.FixtureRequest, django_databases: Any, pgqueue_dsn: str
) -> Iterator[Any]:
    """A Django connection to the test's database, binding in either way."""
    parts = conninfo_to_dict(pgqueue_dsn)
    django_databases.databases["pgqueue"] = {
        **django_databases.databases["default"],
        "NAME": parts["dbname"],
        "HOST": parts["host"],
        "PORT": parts.get("port", ""),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "OPTIONS": {"server_side_binding": request.param},
    }
    yield django_databases["pgqueue"]
    django_databases["pgqueue"].close()
    del django_databases["pgqueue"]


def test_django_connection(pgqueue_client: Client, django_connection: Any) -> None:
    """Enqueue and ack join its atomic block, also as the first thing that it does."""
    transaction = importlib.import_module("django.db").transaction
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="pgqueue"):
        pgqueue_client.enqueue("a", conn=django_connection)
        pgqueue_client.enqueue_many([("b", n) for n in range(300)], conn=django_connection)
        raise ZeroDivisionError
    assert pgqueue_client.list() == []
    with transaction.atomic(using="pgqueue"):
        with django_connection.cursor() as cursor:
            cursor.execute("create table t (n int)")
        pgqueue_client.enqueue("a", {"n": 1}, conn=django_connection)
        assert pgqueue_client.list() == []
    (job,) = pgqueue_client.claim(conn=django_connection)
    assert job.payload == {"n": 1}
    assert job.run_at.tzinfo is not None
    with transaction.atomic(using="pgqueue"):
        job.ack(conn=django_connection)
    assert pgqueue_client.get(job.id).state == "succeeded"


def test_django_outside_of_a_block_commits_at_once(
    pgqueue_client: Client, django_connection: Any
) -> None:
    """As everything in Django does; a bulk is all or nothing all the same."""
    pgqueue_client.enqueue("a", conn=django_connection)
    with pytest.raises(pgqueue.InvalidJob):
        pgqueue_client.enqueue_many([("a", {})] * 2001 + [("a b", {})], conn=django_connection)
    assert len(pgqueue_client.list()) == 1
