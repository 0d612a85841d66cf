"""What a client runs again and again is prepared; that changes nothing but the time it takes."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.client.conftest import MakeClient, Sql
from tests.faults.harness.pooler import Pooler

from pgqueue import Client, DatabaseUnavailable, InvalidJob, prepared
from pgqueue.statements import Statement

OURS = "select count(*) from pg_prepared_statements where name like 'pgqueue%%'"
TIMES = 6
"""From the sixth time on a statement is prepared."""


def rows_of(text: str, *params: object) -> Statement[list[tuple[Any, ...]]]:
    """A statement whose rows come as they are."""
    return Statement(text, params, list)


def warm(client: Client, statement: Statement[Any]) -> None:
    """Runs it until it is prepared."""
    for _ in range(TIMES):
        client._run(statement)


@pytest.fixture
def one(make_client: MakeClient, pooled: Pooler | None) -> Client:
    """A client of one connection, which prepares."""
    if pooled is not None:
        pytest.skip("behind a pooler nothing is prepared, as tests/client/test_poolers.py shows")
    return make_client(pool_size=1)


def count(client: Client) -> int:
    """How many statements of ours its connection has prepared."""
    found: int = client._run(rows_of(f"{OURS} -- {object()!r}"))[0][0]
    return found


def test_only_what_is_repeated_is_prepared(one: Client) -> None:
    """Not what a process does once, which would take two round trips."""
    for _ in range(TIMES - 1):
        one.enqueue("a")
    assert count(one) == 0
    one.enqueue("a")
    assert count(one) == 1
    for _ in range(TIMES):
        one.enqueue("b", {"n": 1})  # the same statement
    assert count(one) == 1


def test_operations_are_prepared(one: Client) -> None:
    """Those that producers and workers repeat."""
    for _ in range(TIMES):
        one.enqueue("a")
        (job,) = one.claim(worker="w")
        one.ack(job)
    assert count(one) == 3


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=VALUES)
@example(value="%s %% $1 '\\")
@example(value="")
def test_values_arrive_as_they_are(one: Client, value: object) -> None:
    """Texts, numbers and nothing, in and out, as by psycopg's cursor."""
    kind = "bigint" if isinstance(value, int) else "text"
    text = f"select %s::{kind}, 7 %% 4, null::text, true, '{{a,b}}'::text[], now() > '2000-01-01'"
    warm(one, rows_of(text, value))
    assert one._run(rows_of(text, value)) == [(value, 3, None, True, ["a", "b"], True)]


def test_what_no_text_can_hold_is_refused(one: Client) -> None:
    """A NUL would end the text for libpq: silently."""
    echo = "select %s::text"
    warm(one, rows_of(echo, "a"))
    with pytest.raises(psycopg.DataError, match="NUL"):
        one._run(rows_of(echo, "a\0b"))
    with pytest.raises(UnicodeEncodeError):
        one._run(rows_of(echo, "\ud800"))
    assert one._run(rows_of(echo, "b")) == [("b",)]


def test_other_types_are_left_to_psycopg(one: Client) -> None:
    """A list, say; also after texts."""
    echo = "select %s::text[]"
    warm(one, rows_of(echo, "{a}"))
    assert one._run(rows_of(echo, ["x", "y"])) == [(["x", "y"],)]


def test_errors_are_the_same_and_harm_nothing(one: Client) -> None:
    """The first time and the tenth."""
    for _ in range(2 * TIMES):
        with pytest.raises(InvalidJob, match="count is -1"):
            one._run(rows_of("select * from pgqueue.claim(count => %s)", -1))
    one.enqueue("a")
    assert one.stats()[0].ready == 1


def test_statement_that_cannot_be_prepared(one: Client) -> None:
    """Its parameter has no type unless the value gives it one."""
    odd = rows_of("select pg_typeof(%s)::text", 5)
    for _ in range(2 * TIMES):
        assert one._run(odd) == [("smallint",)]
    assert count(one) == 0


def test_server_that_forgets(one: Client, sql: Sql) -> None:
    """Somebody's DISCARD ALL, by a pooler for instance; then it is prepared again."""
    sql(
        "create function public.forget() returns void language plpgsql as "
        "$$ begin execute 'deallocate all'; end $$"
    )
    for _ in range(TIMES):
        one.enqueue("a")
    one._run(rows_of("select public.forget()::text"))
    assert count(one) == 0
    for _ in range(TIMES + 1):
        one.enqueue("a")
    assert count(one) == 1
    assert one.stats()[0].ready == 2 * TIMES + 1


def test_columns_that_a_migration_changes(one: Client, sql: Sql) -> None:
    """Postgres refuses the old plan; nothing was done, so it is done by a cursor."""
    sql("create view public.seen as select 1 as a")
    look = rows_of("select * from public.seen")
    warm(one, look)
    sql("drop view public.seen")
    sql("create view public.seen as select 'x'::text as b, 2 as c")
    for _ in range(2 * TIMES):
        assert one._run(look) == [("x", 2)]


def test_no_more_than_some(one: Client) -> None:
    """A client with ever new statements does not fill the server's memory."""
    for place in range(prepared.MOST + 5):
        warm(one, rows_of(f"select {place}"))
    assert count(one) == prepared.MOST
    assert one._run(rows_of(f"select {prepared.MOST + 4}")) == [(prepared.MOST + 4,)]


def test_not_if_told_so(make_client: MakeClient) -> None:
    """With `prepare=False`."""
    client = make_client(pool_size=1, prepare=False)
    for _ in range(2 * TIMES):
        client.enqueue("a")
    assert client._run(rows_of("select count(*) from pg_prepared_statements")) == [(0,)]


def test_in_transactions_a_cursor_does_it(one: Client, sql: Sql) -> None:
    """Where a statement that cannot be prepared would end what was begun."""
    for _ in range(TIMES):
        one.enqueue_many([("a", {})] * 5)
    assert count(one) == 0
    assert sql("select count(*) from pgqueue.job") == [(5 * TIMES,)]


def test_silent_server_is_given_up(make_client: MakeClient) -> None:
    """As with a cursor; see test_deadlines."""
    client = make_client(reply_timeout=timedelta(seconds=0.3), pool_size=1)
    text = "select pg_sleep(%s::float8)::text"
    warm(client, rows_of(text, "0"))
    with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.3 s"):
        client._run(rows_of(text, "30"))
    assert client._run(rows_of(text, "0")) == [("",)]


def test_server_that_goes_away(one: Client, sql: Sql) -> None:
    """While it runs what was prepared."""
    text = "select pg_sleep(%s::float8)::text, pg_backend_pid()"
    warm(one, rows_of(text, "0"))
    ((_, pid),) = one._run(rows_of(text, "0"))

    def kill() -> None:
        asleep = "select from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
        deadline = time.monotonic() + 10
        while not sql(asleep, pid) and time.monotonic() < deadline:
            pass
        sql("select pg_terminate_backend(%s)", pid)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DatabaseUnavailable):
        one._run(rows_of(text, "20"))
    killer.join()
    assert one._run(rows_of(text, "0"))[0][1] != pid
