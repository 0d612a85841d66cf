"""Transactions of ours are READ COMMITTED, and run again where they lost a race."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgqueue import Client
from pgqueue.bulk import BATCH, SMALL_BATCH

ISOLATIONS = ["read committed", "repeatable read", "serializable"]


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


def lose_races(sql: Callable[..., Any], count: int, only: str = "true") -> None:
    """Lets the next `count` inserts, of `only` those, fail as if another one had been faster."""
    sql("create sequence if not exists public.races")
    sql("alter sequence public.races restart")
    sql(
        f"""
        create or replace function public.race() returns trigger language plpgsql as $$ begin
            if {only} and nextval('public.races') <= {count} then
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


@pytest.mark.parametrize("count", [1, SMALL_BATCH])
@pytest.mark.parametrize("form", [list, iter])
def test_bulk_that_lost_a_race_is_run_again(
    client: Client, sql: Callable[..., Any], form: Callable[..., Any], count: int
) -> None:
    """Also one from an iterator, whose first batch is kept for that."""
    lose_races(sql, 5)
    added = client.enqueue_many(form([("a", n) for n in range(count)]))
    assert [job.payload for job in client.claim(limit=count + 1)] == list(range(count))
    assert (len(added.ids), added.duplicates) == (count, 0)


def test_bulk_that_cannot_be_had_again_tells_of_the_lost_race(
    client: Client, sql: Callable[..., Any]
) -> None:
    """Of an iterator no more than one batch is kept; a list is there for another time."""
    jobs = [("a", n) for n in range(BATCH)] + [("late", 0)]
    lose_races(sql, 2, "new.kind = 'late'")
    with pytest.raises(psycopg.errors.DeadlockDetected):
        client.enqueue_many(iter(jobs))
    assert client.list() == []
    assert client.enqueue_many(jobs).enqueued == len(jobs)


def test_lost_race_of_the_iterable_is_its_own(client: Client) -> None:
    """It may read from a database, too; what it still has is not taken for all."""

    def jobs() -> Iterator[tuple[str, int]]:
        yield from (("a", n) for n in range(BATCH))
        raise psycopg.errors.DeadlockDetected

    with pytest.raises(psycopg.errors.DeadlockDetected):
        client.enqueue_many(jobs())
    assert client.list() == []


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
