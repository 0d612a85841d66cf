"""No operation waits for ever for a server that does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import Client, ConfigurationError, DatabaseUnavailable, Handlers, Worker, migrate
from pgqueue.bounded import patient
from pgqueue.statements import Statement

SHORT = timedelta(seconds=0.3)


def sleep(seconds: float) -> Statement[list[Any]]:
    """A server that says nothing for so long."""
    return Statement("select pg_sleep(%s)", (seconds,), list)


@pytest.mark.parametrize("wrong", [1.5, None, timedelta(0), timedelta(seconds=-1)])
def test_timeout_that_is_none_is_refused(make_client: Callable[..., Client], wrong: object) -> None:
    """With what to pass instead; for the worker likewise."""
    with pytest.raises(ConfigurationError, match=r"reply_timeout is .* pass a timedelta"):
        make_client(reply_timeout=wrong)
    if wrong is not None:
        handlers = Handlers()
        handlers.register("a")(lambda _: None)
        options: dict[str, Any] = {"reply_timeout": wrong}
        with pytest.raises(ConfigurationError, match=r"reply_timeout is .* pass a timedelta"):
            Worker("host=x", handlers, **options)


def test_silent_server_is_given_up(make_client: Callable[..., Client]) -> None:
    """In time, and that its fate is open is told; the next operation has a new connection."""
    client = make_client(reply_timeout=SHORT, pool_size=1)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match=r"no answer within 0.3 s.*nobody knows"):
            client._run(sleep(30))
        assert 0.3 <= time.monotonic() - began < 5
    client.enqueue("a")
    assert client.stats()[0].ready == 1


def test_silence_counts_from_the_last_word(make_client: Callable[..., Client]) -> None:
    """An answer that takes longer in all, but goes on, is waited for."""
    client = make_client(reply_timeout=SHORT)
    slowly = "select repeat('x', 9000), pg_sleep(0.1) from generate_series(1, 8)"
    began = time.monotonic()
    assert len(client._run(Statement(slowly, (), list))) == 8
    assert time.monotonic() - began > 0.8


def test_bulk_waits_no_longer(make_client: Callable[..., Client], pgqueue_dsn: str) -> None:
    """A COPY that a lock holds up; nothing of it stays."""
    client = make_client(reply_timeout=SHORT)
    client.enqueue("a")
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("lock table pgqueue.job in access exclusive mode")
        with pytest.raises(DatabaseUnavailable):
            client.enqueue_many([("a", {})] * 5_000)
    assert client.stats()[0].ready == 1


def test_migration_may_take_longer(
    make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, pgqueue_dsn: str
) -> None:
    """An index on a large table is no silence."""
    real = migrate.script
    monkeypatch.setattr(
        migrate, "script", lambda *args, **kw: "select pg_sleep(0.6);" + real(*args, **kw)
    )
    client = make_client(schema="other", reply_timeout=SHORT)
    client.migrate()
    assert client.schema_state().current
    with pytest.raises(DatabaseUnavailable):
        client._run(sleep(30))
    with psycopg.connect(pgqueue_dsn) as conn, patient(conn, 9):
        conn.execute("select")  # somebody else's waits as it was made to
