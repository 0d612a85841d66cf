"""A canary in payloads, results, errors and passwords, and every place where it must not sing."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
import psycopg
import psycopg_pool
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import pgqueue
from pgqueue import AsyncClient, Cancel, Client, Handlers, Job, Retry, Skip, Worker, mask_payload
from pgqueue.drivers import AsyncDriver, Driver
from pgqueue.masking import first_line, masked, trace
from pgqueue.models import error_entry
from pgqueue.redaction import redacted
from pgqueue.testing.inline import run_pending

CANARY = "canary-5d0c"
NUMBER = 4929123456781234
PASSWORD = "pass-canary-81"  # noqa: S105 - of no role
PAYLOAD: Any = {"card": NUMBER, "deep": [{"who": CANARY}], "line": f"a\n{CANARY}"}
SONGS = (CANARY, str(NUMBER), PASSWORD)


@pytest.fixture
def dsn(pgqueue_dsn: str) -> str:
    """A DSN with a password, which the test's server does not ask for."""
    return make_conninfo(pgqueue_dsn, password=PASSWORD)


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was logged at INFO or above, formatted, and printed."""
    caplog.set_level(logging.INFO)

    def seen() -> str:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s %(args)s")
        lines = [formatter.format(record) + str(vars(record)) for record in caplog.records]
        out, err = capfd.readouterr()
        return "\n".join([*lines, out, err])

    return seen


def _sings(text: str) -> list[str]:
    return [song for song in SONGS if song in text]


def _boom(job: Job[Any]) -> None:
    raise ValueError(f"cannot charge {job.payload!r} with postgresql://u:{PASSWORD}@h/d")


def _refused_by_the_database(job: Job[Any]) -> None:
    with psycopg.connect("host=/nowhere password='" + PASSWORD + "'"):
        _boom(job)


def _not_json(job: Job[Any]) -> object:
    return {job.payload["deep"][0]["who"]: {1, 2}}


@attrs.frozen
class Card:
    """Too few fields for the payload."""

    card: int


def _handlers(**options: Any) -> Handlers:
    """Handlers that quote what they got in every way there is."""
    handlers = Handlers(**options)
    ways: dict[str, Callable[[Job[Any]], object]] = {
        "raises": _boom,
        "connects": _refused_by_the_database,
        "returns": lambda job: job.payload,
        "unstorable": _not_json,
        "skips": lambda job: Skip(f"why: {job.payload}"),
        "cancels": lambda job: Cancel(f"why: {job.payload}"),
        "retries": lambda job: Retry(reason=f"why: {job.payload}"),
        "misuses": lambda job: Retry(job.payload),
    }
    for name, way in ways.items():
        handlers.register(name, max_attempts=1)(way)
    handlers.register("misfits", max_attempts=1, payload=Card)(lambda _: None)

    @handlers.register("sleeps", max_attempts=1)
    async def sleeps(job: Job[Any]) -> None:
        await asyncio.sleep(0)
        _boom(job)

    @handlers.register("batch", max_attempts=1, batch=10)
    def batch(jobs: list[Job[Any]]) -> None:
        _boom(jobs[0])

    @handlers.on_end
    def observe(event: pgqueue.AttemptEnded) -> None:
        raise RuntimeError(f"observed {event.job.payload}")

    return handlers


def _stored(client: Client) -> str:
    """What the database keeps besides payloads and results."""
    with client.driver.connection() as conn:
        rows = conn.execute(
            "select state, kind, history, metadata, tags, worker from pgqueue.all_jobs"
        ).fetchall()
    return str(rows)


@pytest.mark.parametrize("way", ["worker", "inline"])
def test_redacted_worker_logs_and_stores_no_payload(
    dsn: str, seen: Callable[[], str], way: str
) -> None:
    """Whatever handlers do with it: their errors are known by class and place alone."""
    with Client(dsn) as client:
        handlers = _handlers(redact=mask_payload)
        for kind in handlers.kinds:
            kind.enqueue(client, PAYLOAD)
        if way == "worker":
            assert Worker(dsn, handlers).run(until_idle=True) == 0
        else:
            run_pending(client, handlers, reraise=False)
        stored = _stored(client)
        text = seen()
    assert text.count(" dead") >= (6 if way == "worker" else 0)
    assert "raises" in stored
    assert "ValueError" in stored
    assert "in _boom" in stored  # the traceback is there
    assert "cannot charge" in stored
    assert "***" in stored
    assert _sings(stored) == []
    assert _sings(text) == []


def test_passwords_are_masked_without_a_rule_of_the_app(dsn: str, seen: Callable[[], str]) -> None:
    """In the log and in the history, in both notations."""
    with Client(dsn) as client:
        handlers = _handlers()
        for kind in handlers.kinds:
            kind.enqueue(client, PAYLOAD)
        assert Worker(dsn, handlers).run(until_idle=True) == 0
        both = _stored(client) + seen()
    assert CANARY in both  # the app has no rule: its errors are told as they are
    assert PASSWORD not in both


def _raising_rule(job: Job[Any], text: str) -> str:
    raise ValueError(f"{job.payload} {text}")


@pytest.mark.parametrize("rule", [_raising_rule, lambda *_: None])
def test_rule_that_fails_lets_nothing_through(dsn: str, seen: Callable[[], str], rule: Any) -> None:
    """And says so, without the text."""
    with Client(dsn) as client:
        handlers = _handlers(redact=rule)
        for kind in handlers.kinds:
            kind.enqueue(client, PAYLOAD)
        assert Worker(dsn, handlers).run(until_idle=True) == 0
        stored, text = _stored(client), seen()
    assert "<left out: redact failed>" in stored
    assert "redact failed on job" in text
    assert _sings(stored + text) == []


def test_rule_gets_the_payload_as_the_handler_does(pgqueue_client: Client) -> None:
    """Decoded; as stored where it does not fit."""
    payloads: list[object] = []

    def rule(job: Job[Any], text: str) -> str:
        payloads.append(job.payload)
        return text

    handlers = Handlers(redact=rule)

    @handlers.register("charge", payload=Card, max_attempts=1)
    def charge(job: Job[Card]) -> None:
        raise ValueError(job.payload.card)

    charge.enqueue(pgqueue_client, Card(NUMBER))
    pgqueue_client.enqueue("charge", {"x": 1})
    run_pending(pgqueue_client, handlers, reraise=False)
    assert Card(NUMBER) in payloads
    assert {"x": 1} in payloads


@pytest.mark.parametrize("rule", ["x", 1])
def test_rule_must_be_a_plain_function(rule: Any) -> None:
    """Told when the handlers are made."""
    with pytest.raises(pgqueue.ConfigurationError, match="redact is"):
        Handlers(redact=rule)

    async def later(job: Job[Any], text: str) -> str:
        del job
        return text

    with pytest.raises(pgqueue.ConfigurationError, match="plain function"):
        Handlers(redact=later)  # type: ignore[arg-type]


def _jobs() -> Iterator[tuple[Any, str, str]]:
    yield {"a": "secret"}, "the secret is secret", "the *** is ***"
    yield {"a": 12345}, "12345 and 1234", "*** and 1234"
    yield {"a": "it's"}, """got "it's" or 'it\\'s'""", """got "***" or 'it\\'s'"""
    yield {"a": "new\nline"}, "new\nline and 'new\\nline'", "*** and '***'"
    yield ["abc", True, None, 1.25], "abc True None 1.25", "abc True None ***"
    yield "whole", "the whole", "the ***"
    yield {"a": "pass", "b": "password"}, "password pass", "*** ***"
    yield Card(1234567), "1234567", "***"
    yield {}, "text", "text"


@pytest.mark.parametrize("payload, text, shown", list(_jobs()))
def test_values_of_the_payload_are_masked(payload: Any, text: str, shown: str) -> None:
    """Strings and numbers of four characters or more, at any depth, the longest first."""

    class Fake:
        def __init__(self) -> None:
            self.payload = payload

    fake: Any = Fake()
    assert mask_payload(fake, text) == shown
    assert redacted(mask_payload, fake, text) == (shown, "")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:{}@h/d",
        "postgres://u:{}@h1,h2:5432/d?sslmode=verify-full",
        "postgresql://h/d?user=u&password={}&x=1",
        "host=h password={} dbname=d",
        "host=h password = '{}' dbname=d",
        "PGPASSWORD={} pgqueue worker",
        "sslpassword={}",
        "postgresql+psycopg://u:{}@h/d",
        "redis://:{}@h/0",
    ],
)
def test_passwords_are_masked_in_every_notation(text: str) -> None:
    """Of libpq, SQLAlchemy and others."""
    given = text.format(PASSWORD)
    shown = masked(given)
    assert PASSWORD not in shown
    assert "***" in shown
    assert PASSWORD not in first_line(ValueError(f"{given}\nmore"))
    assert PASSWORD not in trace(ValueError(given))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["x" * 100_000_000, "a" * 2_000_000 + "://", "password" * 250_000])
def test_long_texts_are_masked_in_no_time(text: str) -> None:
    """What is far behind the part that is kept is not looked at: the loop would stand still."""
    entry = error_entry(ValueError(f"postgresql://u:{PASSWORD}@h {text} password={PASSWORD}"))
    assert PASSWORD not in str(entry)
    assert len(entry["message"]) == 1000


def test_first_line_has_no_details_and_never_fails() -> None:
    """Details of Postgres quote the data."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert first_line(ValueError("a\nDETAIL: b")) == "a"
    assert first_line(Mute()) == "<the __str__ of Mute failed>"
    assert "a secret" not in trace(ValueError("a secret"), frames_only=True)


BAD_DSNS = (
    f"postgresql://u:{PASSWORD}@[h/d",
    f"host=h password='{PASSWORD}",
    f"postgresql://u:{PASSWORD}@h/d?nope=1",
    f"nope={PASSWORD}",
)


@pytest.mark.parametrize("bad", BAD_DSNS)
def test_dsn_that_cannot_be_parsed_is_not_quoted(bad: str) -> None:
    """Not in the message, nor in the traceback with all its causes."""
    uses: list[Callable[[], object]] = [
        lambda: Client(bad).stats(),
        lambda: asyncio.run(AsyncClient(bad).stats()),
        lambda: Worker(bad, _handlers()).run(),
        lambda: Client(psycopg_pool.ConnectionPool(bad, open=False)).dsn,
    ]
    for use in uses:
        with pytest.raises(pgqueue.ConfigurationError) as caught:
            use()
        assert PASSWORD not in str(caught.value)
        shown = "".join(traceback.format_exception(caught.value))
        assert PASSWORD not in "\n".join(
            line for line in shown.splitlines() if not line.startswith("    ")
        )


@pytest.mark.parametrize(
    "form",
    ["postgresql://u:{}@127.0.0.1:1/d?connect_timeout=1", "host=127.0.0.1 port=1 password={}"],
)
def test_server_that_does_not_answer_is_told_without_the_password(form: str) -> None:
    """In both notations, sync and async, with all causes."""
    dsn = form.format(PASSWORD)
    uses: list[Callable[[], object]] = [
        lambda: Client(dsn).stats(),
        lambda: asyncio.run(AsyncClient(dsn).stats()),
    ]
    for use in uses:
        with pytest.raises(pgqueue.DatabaseUnavailable) as caught:
            use()
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_nothing_shows_its_dsn(dsn: str) -> None:
    """In a repr, which a debugger or an error tracker prints."""
    handlers = _handlers(redact=mask_payload)
    assert conninfo_to_dict(dsn)["password"] == PASSWORD
    from pgqueue.cli.session import Session  # noqa: PLC0415 - the extra cli

    session = Session(dsn=dsn)
    assert session.find()
    with Client(dsn) as client:
        client.stats()
        for each in (
            client, AsyncClient(dsn), Worker(client, handlers), Worker(dsn, handlers),
            client.driver, Driver(dsn, "pgqueue", 1), AsyncDriver(dsn, "pgqueue", 1),
            client.statements, session, handlers,
        ):  # fmt: skip
            assert PASSWORD not in repr(each)
            assert PASSWORD not in str(each)


def test_refused_row_is_not_repeated_by_any_cause(
    pgqueue_client: Client, seen: Callable[[], str]
) -> None:
    """Postgres' detail has all its columns, which a traceback would print."""
    ancient = datetime(1, 1, 2, tzinfo=timezone.utc)

    def once(client: Client) -> None:
        client.enqueue("k", PAYLOAD, run_at=ancient)

    def many(client: Client) -> None:
        client.enqueue_many([pgqueue.NewJob("k", PAYLOAD, run_at=ancient)] * 300)

    async def later() -> None:
        async with AsyncClient(pgqueue_client.dsn) as client:
            await client.enqueue("k", PAYLOAD, run_at=ancient)

    uses: list[Callable[[], object]] = [
        lambda: once(pgqueue_client),
        lambda: many(pgqueue_client),
        lambda: asyncio.run(later()),
    ]
    for use in uses:
        with pytest.raises(pgqueue.InvalidJob) as caught:
            use()
        assert _sings("".join(traceback.format_exception(caught.value))) == []
    assert _sings(seen()) == []


MODULE = """
import pgqueue

handlers = pgqueue.Handlers(redact=pgqueue.mask_payload)


@handlers.register("raises", max_attempts=1)
def raises(job):
    raise ValueError(f"cannot charge {job.payload}")
"""


def test_command_line_shows_payloads_only_where_it_is_asked_for_them(
    dsn: str, tmp_path: Path
) -> None:
    """A worker with -vv, the list, an error with its traceback; `job` shows what is stored."""
    (tmp_path / "canary_jobs.py").write_text(MODULE)

    def run(*args: str, dsn: str = dsn) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pgqueue", *args],
            env={**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip
        return done.stdout + done.stderr

    with Client(dsn) as client:
        job = client.enqueue("raises", PAYLOAD, max_attempts=1).id
    worker = run("worker", "canary_jobs:handlers", "--drain", "-vv")
    assert ": ValueError: cannot charge" in worker
    assert _sings(worker + run("jobs") + run("stats")) == []
    shown = run("job", str(job))
    assert PASSWORD not in shown
    before, _, history = shown.partition("Attempt 1")
    assert CANARY in before  # the payload, which was asked for
    assert "cannot charge" in history
    assert _sings(history) == []
    for bad in BAD_DSNS:
        failed = run("stats", "-vv", dsn=bad)
        assert "cannot be parsed" in failed
        assert PASSWORD not in failed
