"""Which connection to use, and what an error of it means."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgqueue import ConfigurationError, connections, embedded, errors


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine decides."""
    for name in (
        "PGQUEUE_DSN", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGSERVICEFILE",
        "PGCONNECT_TIMEOUT", "PGAPPNAME",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(embedded, "dsn", lambda: "host=embedded")


def resolved(dsn: str | None) -> dict[str, Any]:
    """The parts of the DSN that is used."""
    return dict(conninfo_to_dict(connections.resolve_dsn(dsn)))


def test_argument_decides_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says; a deadline and a name are added."""
    monkeypatch.setenv("PGQUEUE_DSN", "host=environment")
    assert resolved("postgresql://u:p%40ss@h:1/d") == {
        "user": "u", "password": "p@ss", "host": "h", "port": "1", "dbname": "d",
        "connect_timeout": "10", "application_name": "pgqueue", "keepalives_idle": "30",
        "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "60000",
    }  # fmt: skip


def test_what_is_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the DSN, or in libpq's own variables."""
    own = {"host": "h", "connect_timeout": "3", "application_name": "mine", "keepalives_idle": "9"}
    given = resolved("host=h connect_timeout=3 application_name=mine keepalives_idle=9")
    assert {**given, **own} == given
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    monkeypatch.setenv("PGAPPNAME", "mine")
    assert not {"connect_timeout", "application_name"} & set(resolved("host=h"))


def test_environment_decides_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGQUEUE_DSN, then libpq's variables; an empty one counts as none."""
    assert resolved(None)["host"] == "embedded"
    monkeypatch.setenv("PGQUEUE_DSN", "")
    assert resolved(None)["host"] == "embedded"
    monkeypatch.setenv("PGHOST", "libpq")
    assert "host" not in resolved(None)
    monkeypatch.setenv("PGQUEUE_DSN", "host=environment")
    assert resolved(None)["host"] == "environment"


@pytest.mark.parametrize("dsn", ["nonsense", "host=h no_such_option=1", "postgresql://h:p:q/%"])
def test_dsn_that_is_none_is_refused(dsn: str) -> None:
    """With both ways to write one."""
    with pytest.raises(ConfigurationError, match=r"write it as postgresql://.*, or as host="):
        connections.resolve_dsn(dsn)


class FakeDiag:
    """What the server says about an error."""

    message_primary = "told"
    message_detail: str | None = None
    severity_nonlocalized = "ERROR"


def error(state: str | None, text: str = "told", **diag: str) -> psycopg.Error:
    """An error as psycopg raises it."""
    kind = psycopg.OperationalError if state is None else psycopg.Error
    facts = type("Diag", (FakeDiag,), {"message_primary": text, **diag})()

    class Raised(kind):  # type: ignore[valid-type,misc]
        sqlstate = state
        diag = facts

    return Raised(text)


@pytest.mark.parametrize(
    "raised, kind",
    [
        (error(None), errors.DatabaseUnavailable),
        (error("08006"), errors.DatabaseUnavailable),
        (error("53300"), errors.DatabaseUnavailable),
        (error("57P01"), errors.DatabaseUnavailable),
        (error("57P03"), errors.DatabaseUnavailable),
        (error("25P03", severity_nonlocalized="FATAL"), errors.DatabaseUnavailable),
        (error("25006"), errors.DatabaseUnavailable),
        (error("PQ001"), errors.DuplicateJob),
        (error("PQ002"), errors.InvalidJob),
        (error("PQ003"), errors.PayloadTooLarge),
        (error("3F000"), errors.SchemaMissing),
        (error("42P01", 'relation "s.job" does not exist'), errors.SchemaMissing),
        (error("42883", "function s.claim() does not exist"), errors.SchemaOutdated),
        (error("42703"), errors.SchemaOutdated),
        (error("42501"), errors.PermissionDenied),
        (error("22P02"), errors.PayloadError),
        (error("22P05"), errors.PayloadError),
        (error("22003"), errors.PayloadError),
        (error("54000"), errors.PayloadError),
        (error("54001"), errors.PayloadError),
        (error("22008"), errors.InvalidJob),
        (error("23514"), errors.InvalidJob),
    ],
)
def test_errors_mean_something(raised: psycopg.Error, kind: type[Exception]) -> None:
    """Exactly that class, with the server's words or the schema's name in it."""
    translated = connections.translate(raised, "s")
    assert type(translated) is kind
    assert "told" in str(translated) or "'s'" in str(translated)


@pytest.mark.parametrize(
    "raised",
    [
        error("42P01", 'relation "mine" does not exist'),
        error("42883", "function mine() does not exist"),
        error("54000", "too many notifications in the NOTIFY queue"),
        error("57014"),
        error("40001"),
        error("23505"),
        error("XX000"),
        errors.DatabaseUnavailable("ours"),
    ],
)
def test_other_errors_stay_as_they_are(raised: psycopg.Error) -> None:
    """Those of somebody's trigger, a timeout, a lost race."""
    assert connections.translate(raised, "s") is raised


def test_detail_of_a_failed_check_is_not_repeated() -> None:
    """It shows the whole row, payload included; that of bad JSON is of use."""
    for state, shown in (("23514", False), ("22P02", True)):
        raised = error(state, message_detail="Failing row contains (secret).")
        assert ("secret" in str(connections.translate(raised, "s"))) is shown


def test_error_without_words_has_its_class() -> None:
    """An empty message helps nobody."""
    assert "OperationalError" in str(connections.translate(psycopg.OperationalError(), "s"))


def test_conn_of_several_kinds_may_be_wanted() -> None:
    """The message names them all."""
    wanted = (psycopg.Connection, psycopg.AsyncConnection)
    with pytest.raises(ConfigurationError, match=r"int; pass .* Connection or AsyncConnection"):
        connections.unwrap(7, wanted)


def test_pauses_grow() -> None:
    """From 5 ms, doubling, at least half of it."""
    for attempt in range(1, connections.RETRIES):
        most = 0.005 * 2 ** (attempt - 1)
        assert all(most / 2 <= connections.retry_pause(attempt) <= most for _ in range(20))


@pytest.mark.parametrize("end", [lambda s: s.send(b"x"), lambda s: s.close()])
def test_news_on_an_idle_socket(end: Callable[[socket.socket], object]) -> None:
    """Something to read, or the end; not the mere silence of an idle connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not connections.has_news(ours.fileno())
        end(theirs)
        assert connections.has_news(ours.fileno())
