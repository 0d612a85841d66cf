"""What pgqueue needs to know of connections: which one to use, and what an error of it means."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import re
import select
import socket
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import conninfo

from pgqueue import errors

if TYPE_CHECKING:
    from collections.abc import Callable

ENVIRONMENT = "PGQUEUE_DSN"
CONNECT_TIMEOUT = 10
"""Seconds to wait for a connection, unless the DSN has a connect_timeout."""
KEEPALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Seconds, and milliseconds the last: a peer that is gone is noticed within a minute, also by who
waits for nothing. Linux alone would begin to look after two hours."""
RETRYABLE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
RETRIES = 6
READ_ONLY_RETRIES = 3
"""Times to try on a server that is read-only, each time on a new connection."""
_HINT = re.compile(r"Is the server running[^?]*\?")
"""libpq's own advice: ours says the same."""
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGSERVICEFILE")


def resolve_dsn(dsn: str | None) -> str:
    """The DSN to use: the argument, PGQUEUE_DSN, libpq's own variables, or the embedded server.

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
        # libpq quotes what it cannot read, and that may be the password.
        reason = re.sub('".*"', "...", str(error), flags=re.DOTALL).strip()
        raise errors.ConfigurationError(
            f"the DSN cannot be parsed ({reason}); "
            "write it as postgresql://user@host:5432/database, or as host=... dbname=..."
        ) from None
    extra: dict[str, Any] = {}
    if "connect_timeout" not in given and "PGCONNECT_TIMEOUT" not in os.environ:
        extra["connect_timeout"] = CONNECT_TIMEOUT
    if "application_name" not in given and "PGAPPNAME" not in os.environ:
        extra["application_name"] = "pgqueue"
    extra.update({name: value for name, value in KEEPALIVE.items() if name not in given})
    return conninfo.make_conninfo(dsn or "", **extra)


def unwrap(conn: Any, wanted: type[Any] | tuple[type[Any], ...]) -> Any:  # noqa: ANN401 - whatever the caller has
    """The psycopg connection inside `conn`: itself, or that of SQLAlchemy's or Django's.

    Raises:
        ConfigurationError: there is none of the kind that this client can use.
    """
    raw = conn
    if hasattr(
        raw, "ensure_connection"
    ):  # Django's wrapper opens its connection with the first query
        raw.ensure_connection()
        raw = raw.connection
    if not isinstance(raw, (psycopg.Connection, psycopg.AsyncConnection)):
        raw = _unwrap_sqlalchemy(raw)
    if isinstance(raw, wanted):
        return raw
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    raise errors.ConfigurationError(
        f"conn is a {type(conn).__module__}.{type(conn).__qualname__}; pass a psycopg (version 3) "
        f"{' or '.join(kind.__name__ for kind in kinds)}, "
        "or a SQLAlchemy or Django connection that uses one"
    )


async def aunwrap(conn: Any) -> psycopg.AsyncConnection[Any]:  # noqa: ANN401
    """The psycopg connection inside `conn`; a SQLAlchemy session begins its transaction for it.

    Raises:
        ConfigurationError: there is none that asyncio can use.
    """
    if hasattr(conn, "get_bind") and inspect.iscoroutinefunction(conn.connection):
        conn = await conn.connection()
    raw: psycopg.AsyncConnection[Any] = unwrap(conn, psycopg.AsyncConnection)
    return raw


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
    if _is_lost(error):
        return errors.DatabaseUnavailable(
            f"the database cannot be reached: {_text(error)}; "
            "check the DSN, and that the server is up"
        )
    return error


def cause(error: psycopg.Error) -> psycopg.Error | None:
    """What a translated error is raised `from`: None where `error` quotes the data.

    Its detail or context would repeat the row, payload and all, in whatever prints the traceback.
    """
    return None if (error.sqlstate or "").startswith(("22", "23")) else error


def _is_lost(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    ended = error.diag.severity_nonlocalized in ("FATAL", "PANIC")
    return ended or error.sqlstate.startswith(("08", "53", "57P"))


def _text(error: psycopg.Error) -> str:
    text = error.diag.message_primary or " ".join(_HINT.sub("", str(error)).split())
    return text or type(error).__name__


def _schema_missing(_: psycopg.Error, schema: str) -> Exception:
    return errors.SchemaMissing(schema)


def _relation_missing(error: psycopg.Error, schema: str) -> Exception:
    # Not one of somebody's trigger.
    return errors.SchemaMissing(schema) if f"{schema}." in _text(error) else error


def _function_missing(error: psycopg.Error, schema: str) -> Exception:
    return _schema_outdated(error, schema) if f"{schema}." in _text(error) else error


def _schema_outdated(error: psycopg.Error, schema: str) -> Exception:
    return errors.SchemaOutdated(
        f"schema {schema!r} is not what this version of pgqueue needs ({_text(error)}); "
        "run client.migrate() or `pgqueue migrate`"
    )


def _read_only(error: psycopg.Error, _: str) -> Exception:
    return errors.DatabaseUnavailable(
        f"{_text(error)}: this server is a standby, or this transaction was declared so; "
        "name all servers in the DSN, with target_session_attrs=read-write"
    )


def _permission_denied(error: psycopg.Error, schema: str) -> Exception:
    if "row-level security" in _text(error):
        return errors.PermissionDenied(
            f"{_text(error)}: the job would be another tenant's than this session's; set "
            "pgqueue.tenant, as in select set_config('pgqueue.tenant', 'acme', true). "
            "Nothing was written"
        )
    return errors.PermissionDenied(
        f"{_text(error)}; have the schema's owner run: "
        f"select \"{schema}\".grant_access('this role', 'producer')  -- or worker, or viewer"
    )


def _with_advice(
    kind: Callable[[str], Exception], advice: str
) -> Callable[[psycopg.Error, str], Exception]:
    def make(error: psycopg.Error, _: str) -> Exception:
        return kind(f"{_text(error)}{advice}")

    return make


def _unstorable(error: psycopg.Error, _: str) -> Exception:
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    return errors.PayloadError(
        f"Postgres cannot store this: {_text(error)}{detail}; nothing was written"
    )


def _over_limit(error: psycopg.Error, schema: str) -> Exception:
    # The server's queue of notifications is full: that says nothing about the job.
    return error if "NOTIFY" in _text(error) else _unstorable(error, schema)


_invalid = _with_advice(errors.InvalidJob, "; nothing was written")


def _no_schedule(error: psycopg.Error, _: str) -> Exception:
    return errors.ScheduleNotFound(error.diag.message_detail or "")


def _no_secret(error: psycopg.Error, _: str) -> Exception:
    return errors.SecretMissing(error.diag.message_detail or "", _text(error))


def _no_job(error: psycopg.Error, _: str) -> Exception:
    return errors.JobNotFound(int(error.diag.message_detail or 0))


def _not_waiting(error: psycopg.Error, _: str) -> Exception:
    job_id, _, state = (error.diag.message_detail or "0 ").partition(" ")
    return errors.JobNotWaiting(int(job_id), state)


def _check_violated(error: psycopg.Error, schema: str) -> Exception:
    if 'relation "schedule"' in _text(error):
        return errors.InvalidSchedule(f"{_text(error)}; nothing was written")
    if "run_time_check" in _text(error):
        return errors.InvalidJob(
            "run_at is out of range; pass a time, or a delay that ends, between 1900 and the end "
            "of 9998. Nothing was written"
        )
    return _invalid(error, schema)


_BY_STATE: dict[str, Callable[[psycopg.Error, str], Exception]] = {
    "PQ001": _with_advice(
        errors.DuplicateJob, "; wait for it, or use on_conflict='return' or 'replace'"
    ),
    "PQ002": _with_advice(errors.InvalidJob, ""),
    "PQ003": _with_advice(errors.PayloadTooLarge, ""),
    "PQ004": _no_schedule,
    "PQ005": _with_advice(errors.InvalidSchedule, ""),
    "PQ006": _no_job,
    "PQ007": _not_waiting,
    "PQ010": _with_advice(errors.ConfigurationError, ""),
    "PQ011": _no_secret,
    "25006": _read_only,
    "3F000": _schema_missing,
    "42P01": _relation_missing,
    "42883": _function_missing,
    "42703": _schema_outdated,
    "42501": _permission_denied,
    "22P02": _unstorable,  # not JSON
    "22P05": _unstorable,  # a character that the database's encoding lacks
    "22003": _unstorable,  # a number out of range
    "54000": _over_limit,  # too many elements
    "54001": _unstorable,  # nested too deeply
    "22008": _invalid,  # a time out of range
    "22015": _invalid,  # an interval out of range
    "23502": _invalid,  # null
    "23514": _check_violated,  # of the table; the detail would repeat the whole row
}


def retry_pause(attempt: int) -> float:
    """Seconds to wait after the `attempt`-th lost race: 5 ms doubling, half of it chance."""
    return 0.005 * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def may_retry(error: BaseException, attempt: int) -> bool:
    """Whether what failed for the `attempt`-th time was undone as a whole, and may go well now.

    A read-only server has done nothing, and its connections are discarded: the next one may lead to
    the new primary.
    """
    if isinstance(error.__cause__, psycopg.errors.ReadOnlySqlTransaction):
        return attempt < READ_ONLY_RETRIES
    return isinstance(error, RETRYABLE) and attempt < RETRIES


def needs_isolation(shown: tuple[Any, ...] | None) -> bool:
    """Whether transactions must ask for READ COMMITTED, from the row that shows the default."""
    return shown is not None and shown[0] != "read committed"


def is_pooled(conn: Any, shown: tuple[Any, ...] | None) -> bool:  # noqa: ANN401 - sync or async
    """Whether a pooler stands between `conn` and its server: it invents the number of the session.

    In transaction mode the next statement may run in another session. What was prepared in one is
    unknown there, or is, under the same name, another client's statement.
    """
    return shown is not None and shown[1] != conn.info.backend_pid


def has_news(fileno: int) -> bool:
    """Whether an idle connection has something to read: most likely the server's goodbye."""
    if hasattr(select, "poll"):
        # A selector would take 2 us more, in each operation.
        poll = select.poll()
        poll.register(fileno, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([fileno], [], [], 0)[0])  # Windows


def cut(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Ends the statement under way on `conn` with an error, without a word to the server."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(conn.fileno())) as shared,
    ):
        shared.shutdown(socket.SHUT_RDWR)
