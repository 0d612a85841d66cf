"""What pgqueue needs to know of connections: which one to use, and what an error of it means."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import conninfo

from pgqueue import errors

if TYPE_CHECKING:
    from collections.abc import Callable

ENVIRONMENT = "PGQUEUE_DSN"
CONNECT_TIMEOUT = 10
"""Seconds to wait for a connection, unless the DSN has a connect_timeout."""
RETRYABLE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
RETRIES = 6
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGSERVICEFILE")


def resolve_dsn(dsn: str | None) -> str:
    """The DSN to use: the argument, then PGQUEUE_DSN, then libpq's own variables, then the embedded server.

    Raises:
        ConfigurationError: it cannot be parsed, or none is given and there is no embedded server.
    """
    if dsn is None:
        dsn = os.environ.get(ENVIRONMENT) or None
    if dsn is None and not any(name in os.environ for name in _LIBPQ_VARIABLES):
        from pgqueue import embedded  # noqa: PLC0415 - only where there is no other database

        dsn = embedded.dsn()
    try:
        given = conninfo.conninfo_to_dict(dsn or "")
    except psycopg.ProgrammingError as error:
        raise errors.ConfigurationError(
            f"the DSN cannot be parsed ({str(error).strip()}); "
            "write it as postgresql://user@host:5432/database, or as host=... dbname=..."
        ) from None
    extra: dict[str, Any] = {}
    if "connect_timeout" not in given and "PGCONNECT_TIMEOUT" not in os.environ:
        extra["connect_timeout"] = CONNECT_TIMEOUT
    if "application_name" not in given and "PGAPPNAME" not in os.environ:
        extra["application_name"] = "pgqueue"
    return conninfo.make_conninfo(dsn or "", **extra)


def unwrap(conn: Any, wanted: type[Any]) -> Any:  # noqa: ANN401 - whatever the caller has
    """The psycopg connection inside `conn`: itself, or that of a SQLAlchemy session or connection, or of Django.

    Raises:
        ConfigurationError: there is none of the kind that this client can use.
    """
    raw = conn
    if hasattr(raw, "ensure_connection"):  # Django's wrapper opens its connection with the first query
        raw.ensure_connection()
        raw = raw.connection
    if not isinstance(raw, (psycopg.Connection, psycopg.AsyncConnection)):
        raw = _unwrap_sqlalchemy(raw)
    if isinstance(raw, wanted):
        return raw
    raise errors.ConfigurationError(
        f"conn is a {type(conn).__module__}.{type(conn).__qualname__}; pass a psycopg (version 3) "
        f"{wanted.__name__}, or a SQLAlchemy or Django connection that uses one"
    )


def _unwrap_sqlalchemy(conn: Any) -> Any:  # noqa: ANN401
    sync_session = getattr(conn, "sync_session", conn)  # AsyncSession
    sync_connection = getattr(sync_session, "sync_connection", sync_session)  # AsyncConnection
    if hasattr(sync_connection, "get_bind") and hasattr(sync_connection, "connection"):  # Session
        sync_connection = sync_connection.connection()
    adapted = getattr(sync_connection, "connection", None)
    return getattr(adapted, "driver_connection", None)


def translate(error: psycopg.Error, schema: str) -> Exception:
    """The pgqueue error that `error` stands for; `error` itself if it stands for none."""
    if isinstance(error, errors.PgqueueError):
        return error
    by_state = _BY_STATE.get(error.sqlstate or "")
    if by_state is not None:
        return by_state(error, schema)
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and (
        error.sqlstate is None or error.sqlstate[:2] in ("08", "28", "3D", "53") or error.sqlstate[:3] == "57P"
    )
    if lost:
        return errors.DatabaseUnavailable(
            f"the database cannot be reached: {_text(error)}; check the DSN, and that the server is up"
        )
    return error


def _text(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__


def _schema_missing(_: psycopg.Error, schema: str) -> Exception:
    return errors.SchemaMissing(schema)


def _schema_outdated(error: psycopg.Error, schema: str) -> Exception:
    return errors.SchemaOutdated(
        f"schema {schema!r} is not what this version of pgqueue needs ({_text(error)}); "
        "run client.migrate() or `pgqueue migrate`"
    )


def _permission_denied(error: psycopg.Error, schema: str) -> Exception:
    return errors.PermissionDenied(
        f"{_text(error)}; have the schema's owner run: "
        f"select \"{schema}\".grant_access('this role', 'producer')  -- or worker, or viewer"
    )


def _with_advice(kind: Callable[[str], Exception], advice: str) -> Callable[[psycopg.Error, str], Exception]:
    def make(error: psycopg.Error, _: str) -> Exception:
        return kind(f"{_text(error)}{advice}")

    return make


def _unstorable(error: psycopg.Error, _: str) -> Exception:
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    return errors.PayloadError(f"Postgres cannot store this: {_text(error)}{detail}; nothing was written")


_BY_STATE: dict[str, Callable[[psycopg.Error, str], Exception]] = {
    "PQ001": _with_advice(errors.DuplicateJob, "; wait for it, or use on_conflict='return' or 'replace'"),
    "PQ002": _with_advice(errors.InvalidJob, ""),
    "PQ003": _with_advice(errors.PayloadTooLarge, ""),
    "3F000": _schema_missing,
    "42P01": _schema_outdated,
    "42883": _schema_outdated,
    "42703": _schema_outdated,
    "42501": _permission_denied,
    "22P02": _unstorable,
    "22P05": _unstorable,
    "22003": _unstorable,
    "22008": _unstorable,
    "23514": _unstorable,
    "54000": _unstorable,
}


def retry_pause(attempt: int) -> float:
    """Seconds to wait before a transaction that lost a race is tried again: 5 ms doubling, spread by half."""
    return 0.005 * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def needs_isolation(default: str) -> bool:
    """Whether transactions must ask for READ COMMITTED, since the database's default is another."""
    return default != "read committed"
