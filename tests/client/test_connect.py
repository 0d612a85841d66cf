"""Where statements go: DSNs, pools, lost connections, isolation levels, threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

import pgqueue
from pgqueue import Client, DatabaseUnavailable, embedded
from pgqueue.statements import Statement

OTHERS = "from pg_stat_activity where datname = current_database() and application_name = 'pgqueue'"
COUNT_OTHERS = f"select count(*) {OTHERS}"
KILL_OTHERS = f"select count(pg_terminate_backend(pid, 5000)) {OTHERS}"


def until(condition: Callable[[], bool]) -> None:
    """Waits for what the server does in its own time."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


ISOLATIONS = ["read committed", "repeatable read", "serializable"]


@pytest.fixture(params=["uri", "key-value"])
def dsn(request: pytest.FixtureRequest, pgqueue_dsn: str) -> str:
    """The test's database, named in either way."""
    if request.param == "key-value":
        return make_conninfo(pgqueue_dsn)
    parts = {k: v for k, v in conninfo_to_dict(pgqueue_dsn).items() if v is not None}
    name = parts.pop("dbname")
    query = "&".join(f"{key}={str(value).replace('/', '%2F')}" for key, value in parts.items())
    return f"postgresql:///{name}?{query}"


def test_dsn_may_be_written_either_way(dsn: str, make_client: Callable[..., Client]) -> None:
    """As a URI or as key=value."""
    client = make_client(dsn)
    client.enqueue("a")
    assert len(client.claim()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "/nonexistent"},
        {"port": "1"},
        {"dbname": "no-such-database"},
        {"user": "no-such-user"},
        {"host": "127.0.0.1", "port": "1", "password": "secret"},
        {"host": "name.invalid"},
    ],
)
def test_wrong_dsn_is_told_at_once(
    make_client: Callable[..., Client], pgqueue_dsn: str, wrong: dict[str, str]
) -> None:
    """Without waiting for a pool that tries again and again, and without the password."""
    client = make_client(make_conninfo(pgqueue_dsn, **wrong))
    with pytest.raises(DatabaseUnavailable, match="check the DSN") as caught:
        client.enqueue("a")
    assert "secret" not in str(caught.value)


def test_wrong_password_is_told_without_it(make_client: Callable[..., Client]) -> None:
    """Nor is the right one in any message."""
    with embedded.temporary() as server:
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute("create role locked login password 'right-secret'")
            rules = server.data / "pg_hba.conf"
            rules.write_text(f"local all locked scram-sha-256\n{rules.read_text('utf-8')}", "utf-8")
            conn.execute("select pg_reload_conf()")
        for password in ({"password": "wrong-secret"}, {}):
            client = make_client(make_conninfo(server.dsn, user="locked", **password))
            with pytest.raises(DatabaseUnavailable, match="check the DSN") as caught:
                client.enqueue("a")
            assert "secret" not in str(caught.value)
        right = make_client(make_conninfo(server.dsn, user="locked", password="right-secret"))  # noqa: S106
        with pytest.raises(pgqueue.SchemaMissing):
            right.enqueue("a")
        right.close()


def test_client_survives_a_restart_of_the_server(make_client: Callable[..., Client]) -> None:
    """While it is gone that is told; once it is back, the next operation goes well."""
    with embedded.temporary() as server:
        client = make_client(server.dsn)
        client.migrate()
        client.enqueue("a")
        embedded.stop(server.data)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                client.enqueue("a")
        embedded.start(server.data)
        client.enqueue("a")
        assert client.stats()[0].ready == 2
        client.close()


def test_dsn_that_is_none(make_client: Callable[..., Client]) -> None:
    """It is refused before anything is connected."""
    client = make_client("postgresql://host/db?no_such_option=1")
    with pytest.raises(pgqueue.ConfigurationError, match="cannot be parsed"):
        client.enqueue("a")


def test_target_of_another_type_is_refused(make_client: Callable[..., Client]) -> None:
    """The message says what to pass."""
    for target in (7, object(), b"dsn"):
        with pytest.raises(pgqueue.ConfigurationError, match="pass a DSN or"):
            make_client(target)


def test_sync_client_refuses_an_async_pool_and_the_other_way_round(
    flavour: str, make_client: Callable[..., Client], pgqueue_dsn: str
) -> None:
    """Each needs its own kind."""

    async def make() -> psycopg_pool.AsyncConnectionPool[Any]:
        return psycopg_pool.AsyncConnectionPool(pgqueue_dsn, open=False)

    wrong: Any
    if flavour == "sync":
        wrong = asyncio.run(make())
    else:
        wrong = psycopg_pool.ConnectionPool(pgqueue_dsn, open=False)
    with pytest.raises(pgqueue.ConfigurationError, match="ConnectionPool"):
        make_client(wrong)


def test_closed_client_connects_again(client: Client) -> None:
    """Closing frees the connections; the next operation makes new ones."""
    client.enqueue("a")
    client.close()
    client.close()
    with client:
        assert len(client.claim()) == 1
    assert client.stats()


# A pool of the caller's


@pytest.fixture
def make_pool(flavour: str, loop: asyncio.AbstractEventLoop) -> Iterator[Callable[..., Any]]:
    """Makes pools that are closed after the test."""
    with ExitStack() as stack:

        def make(dsn: str, **options: Any) -> Any:
            if flavour == "sync":
                pool = psycopg_pool.ConnectionPool(dsn, open=True, **options)
                stack.callback(pool.close)
                return pool

            async def opened() -> psycopg_pool.AsyncConnectionPool[Any]:
                pool = psycopg_pool.AsyncConnectionPool(dsn, open=False, **options)
                await pool.open()
                return pool

            apool = asyncio.run_coroutine_threadsafe(opened(), loop).result(20)
            stack.callback(lambda: asyncio.run_coroutine_threadsafe(apool.close(), loop).result(20))
            return apool

        yield make


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"autocommit": True},
        {"row_factory": dict_row, "prepare_threshold": None},
        {"cursor_factory": psycopg.RawCursor},
    ],
)
def test_given_pool_is_used_and_left_open(
    flavour: str,
    make_client: Callable[..., Client],
    make_pool: Callable[..., Any],
    pgqueue_dsn: str,
    kwargs: dict[str, Any],
) -> None:
    """However its connections are set up."""
    if flavour == "async" and "cursor_factory" in kwargs:
        kwargs = {"cursor_factory": psycopg.AsyncRawCursor}
    pool = make_pool(pgqueue_dsn, min_size=1, max_size=1, kwargs=kwargs)
    client = make_client(pool)
    client.enqueue("a")
    client.enqueue_many([("a", {})] * 300)
    client.ack(client.claim(limit=301))
    client.close()
    assert not pool.closed
    assert client.claim() == []


def test_given_pool_tells_where_the_queue_is(
    make_client: Callable[..., Client], make_pool: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """Also where a part of it is among the arguments of its connections."""
    parts = conninfo_to_dict(pgqueue_dsn)
    name = parts.pop("dbname")
    rest = make_conninfo(**{key: str(value) for key, value in parts.items()})
    pool = make_pool(rest, min_size=0, max_size=1, kwargs={"dbname": name, "autocommit": True})
    client = make_client(pool)
    assert conninfo_to_dict(client.dsn).items() >= conninfo_to_dict(pgqueue_dsn).items()


def test_pool_without_a_fixed_dsn_is_told(flavour: str, make_client: Callable[..., Client]) -> None:
    """Only what needs one, such as a worker, has to do without."""

    async def make() -> Any:
        return psycopg_pool.AsyncConnectionPool(lambda: "host=h", open=False)

    pool: Any
    if flavour == "sync":
        pool = psycopg_pool.ConnectionPool(lambda: "host=h", open=False)
    else:
        pool = asyncio.run(make())
    with pytest.raises(pgqueue.ConfigurationError, match="no fixed DSN"):
        _ = make_client(pool).dsn


def test_closed_pool_is_told(
    make_client: Callable[..., Client], make_pool: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """It was given, so it is the giver's to open it again."""
    pool = make_pool(pgqueue_dsn)
    client = make_client(pool)
    closed = pool.close()
    if asyncio.iscoroutine(closed):
        asyncio.run_coroutine_threadsafe(closed, client.loop).result(20)  # type: ignore[attr-defined]
    with pytest.raises(DatabaseUnavailable, match="closed"):
        client.enqueue("a")


def test_exhausted_pool_is_told(
    make_client: Callable[..., Client], make_pool: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """Nobody waits for ever."""
    pool = make_pool(pgqueue_dsn, min_size=1, max_size=1, timeout=0.05)
    client = make_client(pool)
    holder = pool.getconn()
    if asyncio.iscoroutine(holder):
        loop = client.loop  # type: ignore[attr-defined] # of Blocking
        holder = asyncio.run_coroutine_threadsafe(holder, loop).result(20)
    with pytest.raises(DatabaseUnavailable, match="couldn't get a connection"):
        client.enqueue("a")
    back = pool.putconn(holder)
    if asyncio.iscoroutine(back):
        asyncio.run_coroutine_threadsafe(back, client.loop).result(20)  # type: ignore[attr-defined]
    client.enqueue("a")


# Connections that are lost


def test_ended_sessions_are_replaced(client: Client, sql: Callable[..., Any]) -> None:
    """After a restart of the server the next operation goes well: broken ones are noticed."""
    barrier = threading.Barrier(4)

    def enqueue() -> None:
        barrier.wait()
        client.enqueue("a")

    client.enqueue("a")
    for _ in range(3):
        threads = [threading.Thread(target=enqueue) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sql(KILL_OTHERS)[0][0] >= 1
        client.enqueue("a")
    assert client.stats()[0].ready == 1 + 3 * 5


def test_who_waits_for_a_lost_connection_gets_another(
    make_client: Callable[..., Client], sql: Callable[..., Any]
) -> None:
    """Only the operation that was under way on it fails."""
    client = make_client(pool_size=1)
    client.enqueue("a")
    failures: list[BaseException] = []

    def hold() -> None:
        try:
            client._run(Statement("select pg_sleep(30)", (), list))
        except DatabaseUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=hold), threading.Thread(target=client.enqueue, args="b")]
    threads[0].start()
    until(lambda: sql(COUNT_OTHERS + " and wait_event = 'PgSleep'") == [(1,)])
    threads[1].start()
    until(lambda: client.driver._pool.get_stats()["requests_waiting"] == 1)
    sql(KILL_OTHERS)
    for thread in threads:
        thread.join()
    assert len(failures) == 1
    assert [job.kind for job in client.list()] == ["b", "a"]


def test_session_that_ends_in_the_middle_is_told(client: Client, sql: Callable[..., Any]) -> None:
    """Nobody knows whether the statement went through, so it is not repeated; the next is well."""
    client.enqueue("a")
    sql(
        "create function die() returns trigger language plpgsql as "
        "'begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); end'"
    )
    sql("create trigger die before insert on pgqueue.job for each row execute function die()")
    with pytest.raises(DatabaseUnavailable):
        client.enqueue("a")
    with pytest.raises(DatabaseUnavailable):
        client.enqueue_many([("a", {})] * 200)
    sql("drop trigger die on pgqueue.job")
    client.enqueue("a")
    assert client.stats()[0].ready == 2


def test_callers_broken_connection_is_told(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """It is the caller's to make a new one."""
    conn = connect()
    conn.close()
    with pytest.raises(DatabaseUnavailable):
        client.enqueue("a", conn=conn)


def test_read_only_server_is_told_and_left(
    client: Client, sql: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """A former primary refuses writes: its connections are not used again."""
    client.stats()
    name = conninfo_to_dict(pgqueue_dsn)["dbname"]
    sql(f"alter database {name} set default_transaction_read_only to on")
    client.close()
    with pytest.raises(DatabaseUnavailable, match="target_session_attrs=read-write"):
        client.enqueue("a")
    sql("set default_transaction_read_only to off")
    sql(f"alter database {name} reset default_transaction_read_only")
    for _ in range(3):
        try:
            client.enqueue("a")
        except DatabaseUnavailable:
            continue
        return
    pytest.fail("still goes to the read-only server")


def test_other_errors_of_the_driver_pass_through(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """What pgqueue has no better word for stays as it is."""
    conn = connect()
    with pytest.raises(psycopg.errors.UndefinedColumn):
        conn.execute("select nothing")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        client.enqueue("a", conn=conn)


def test_connection_that_cannot_be_set_up_is_closed(
    client: Client, sql: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left to the garbage collector, which would warn of it."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(client.driver, "_configure", fail)
    with pytest.raises(ZeroDivisionError):
        client.enqueue("a")
    until(lambda: sql(COUNT_OTHERS) == [(0,)])


# Isolation


@pytest.fixture(params=ISOLATIONS)
def isolation(request: pytest.FixtureRequest, sql: Callable[..., Any], pgqueue_dsn: str) -> str:
    """Each default that a database may have."""
    name = conninfo_to_dict(pgqueue_dsn)["dbname"]
    sql(f"alter database {name} set default_transaction_isolation to '{request.param}'")
    return str(request.param)


@pytest.mark.parametrize("source", ["own", "autocommit", "transactions"])
def test_concurrent_work_goes_well_under_any_default_isolation(
    isolation: str,
    source: str,
    make_client: Callable[..., Client],
    make_pool: Callable[..., Any],
    pgqueue_dsn: str,
    sql: Callable[..., Any],
) -> None:
    """Every transaction of ours is READ COMMITTED, so none fails to serialize; in any pool."""
    target = None
    if source != "own":
        kwargs = {"autocommit": source == "autocommit"}
        target = make_pool(pgqueue_dsn, min_size=2, max_size=4, kwargs=kwargs)
    client = make_client(target, pool_size=4)
    sql(
        "create function check_isolation() returns trigger language plpgsql as $$ begin "
        "if current_setting('transaction_isolation') <> 'read committed' then "
        "raise exception 'isolation is %', current_setting('transaction_isolation'); end if; "
        "return null; end $$"
    )
    sql(
        "create trigger check_isolation after insert or update or delete on pgqueue.job "
        "for each statement execute function check_isolation()"
    )
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for _ in range(5):
                client.enqueue("a", dedupe_key=str(n % 2))
                client.enqueue_many([("a", {})] * (150 if n % 2 else 3))
                jobs = client.claim(limit=5)
                client.extend(jobs)
                client.ack(jobs)
                client.maintain()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert isolation in ISOLATIONS


def lose_races(sql: Callable[..., Any], count: int) -> None:
    """Lets the next `count` inserts fail as if another transaction had been faster."""
    sql("create sequence if not exists public.races")
    sql("alter sequence public.races restart")
    sql(
        f"""
        create or replace function public.race() returns trigger language plpgsql as $$ begin
            if nextval('public.races') <= {count} then
                raise exception using errcode =
                    case currval('public.races') % 2 when 0 then '40001' else '40P01' end;
            end if;
            return new;
        end $$
        """
    )
    sql(
        "create or replace trigger race before insert on pgqueue.job "
        "for each row execute function public.race()"
    )


def test_lost_race_is_run_again(client: Client, sql: Callable[..., Any]) -> None:
    """A deadlock or a failed serialization is repeated as a whole, up to six times."""
    lose_races(sql, 5)
    client.enqueue("a")
    lose_races(sql, 6)
    with pytest.raises(psycopg.errors.SerializationFailure):
        client.enqueue("a")
    assert sql("select last_value from public.races") == [(6,)]


def test_lost_race_in_the_callers_transaction_is_the_callers(
    client: Client, connect: Callable[..., psycopg.Connection[Any]], sql: Callable[..., Any]
) -> None:
    """Only the caller can run the whole transaction again."""
    lose_races(sql, 1)
    with pytest.raises(psycopg.errors.DeadlockDetected):
        client.enqueue("a", conn=connect())
    client.enqueue("a")


def test_prepared_statements_may_be_forgone(
    make_client: Callable[..., Client], sql: Callable[..., Any]
) -> None:
    """For poolers that do not keep them apart."""
    client = make_client(prepare=False, pool_size=1)
    sql("create table public.prepared (n bigint)")
    sql("create function see() returns trigger language plpgsql as $$ begin "
        "insert into public.prepared select count(*) from pg_prepared_statements; "
        "return null; end $$")  # fmt: skip
    sql("create trigger see after insert on pgqueue.job execute function see()")
    for _ in range(8):
        client.enqueue("a")
    assert sql("select max(n) from prepared") == [(0,)]


def test_wait_is_bounded_by_its_timeout_when_the_server_is_gone(
    make_client: Callable[..., Client], pgqueue_dsn: str
) -> None:
    """It is told, not waited for."""
    client = make_client(make_conninfo(pgqueue_dsn, port="1"))
    with pytest.raises(DatabaseUnavailable):
        client.wait(1, timeout=timedelta(hours=1))
