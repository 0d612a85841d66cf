"""The worker's upkeep, and what it does where statements may not take long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from pgqueue import Client, Handlers
from pgqueue.worker import claims, upkeep
from pgqueue.worker.portion import Portion

from .helpers import Database, drain, until, working


@pytest.fixture
def slow_rows(database: Database) -> Iterator[None]:
    """Each row that is updated takes 4 ms, and statements are ended after 100 ms."""
    ((name,),) = database.query("select current_database()")
    database.query(
        "create function public.dawdle() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.004); return new; end $$"
    )
    database.query(
        "create trigger dawdle before update on job for each row execute function public.dawdle()"
    )
    database.query(f'alter database "{name}" set statement_timeout = 100')
    yield
    database.query(f'alter database "{name}" reset statement_timeout')
    database.query("drop trigger dawdle on job")
    database.query("drop function public.dawdle")


def test_promotion_that_takes_too_long_is_done_in_parts(
    client: Client,
    handlers: Handlers,
    database: Database,
    slow_rows: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred jobs are due, and no statement can promote more than some twenty."""
    del slow_rows
    monkeypatch.setattr(upkeep, "DEFAULT_UPKEEP", 200)
    handlers.register("a")(lambda _: None)
    database.query("select enqueue('a', delay => '0.1s') from generate_series(1, 100)")
    client.close()
    with working(client.dsn, handlers, concurrency=2, prefetch=4):
        until(lambda: not database.query("select 1 from job"), 30)


def test_claim_that_takes_too_long_asks_for_less(
    client: Client,
    handlers: Handlers,
    database: Database,
    slow_rows: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a hundred free places no claim can fill more than some twenty."""
    del slow_rows
    monkeypatch.setattr(claims, "LARGEST_CLAIM", 60)
    handlers.register("a")(lambda _: None)
    database.query("select enqueue('a') from generate_series(1, 100)")
    client.close()
    assert drain(Client(client.dsn), handlers, concurrency=100, prefetch=0) == 0
    assert not database.query("select 1 from job")


def test_renewal_that_takes_too_long_is_done_in_parts(
    client: Client, handlers: Handlers, database: Database, slow_rows: None
) -> None:
    """Forty claims are to be renewed, and no statement can renew more than some twenty."""
    del slow_rows
    release = threading.Event()

    @handlers.register("a")
    def handler(_: Any) -> None:
        release.wait(20)

    database.query("select enqueue('a') from generate_series(1, 40)")
    client.close()
    options = {"concurrency": 40, "lease": timedelta(seconds=1.5)}
    with working(client.dsn, handlers, **options):
        until(lambda: len(database.query("select 1 from job where lease_until is not null")) == 40)
        ((until_then,),) = database.query("select max(lease_until) + interval '3s' from job")
        until(lambda: database.query("select 1 from job having min(lease_until) > %s", until_then))
        release.set()
        until(lambda: not database.query("select 1 from job"))
    assert not database.query("select 1 from archive where attempt > 1")


def test_portion_is_halved_at_once_and_grows_slowly() -> None:
    """Never to nothing, and never beyond its most."""
    portion = Portion(100)
    portion.grow()
    assert portion.size == 100
    portion.shrink()
    assert portion.size == 50
    portion.grow()
    assert 50 < portion.size < 60
    for _ in range(20):
        portion.shrink()
    assert portion.size == 1
    for _ in range(100):
        portion.grow()
    assert portion.size == 100
