"""Every exception that pgqueue raises on purpose.

    PgqueueError
    ├── ConfigurationError          wrong arguments or set-up of this process
    │   ├── UnknownKind             no handler is registered for a kind
    │   ├── SecretMissing           a secret that an endpoint is called with was not put
    │   └── EmbeddedServerError     the embedded Postgres cannot be started
    ├── EndpointBusy                as many pokes run in this process as may at once
    ├── DatabaseError               the database refuses; also a psycopg.OperationalError
    │   ├── DatabaseUnavailable     wrong DSN, server gone, no connection in time
    │   └── PermissionDenied        this role lacks a grant; also psycopg's own class
    ├── SchemaError                 the schema is not what this version needs
    │   ├── SchemaMissing           not installed: run migrate
    │   └── SchemaOutdated          older or newer than this version of pgqueue
    ├── InvalidJob                  a job, name or option that cannot be stored; also a ValueError
    │   ├── PayloadError            a payload, result or metadata value that is no valid JSON
    │   │   ├── PayloadTooLarge     over the cap of the schema
    │   │   └── DecryptionError     a stored payload that no key of the codec decrypts
    │   └── InvalidSchedule         a schedule that cannot be stored
    ├── ScheduleNotFound            no schedule of that name
    ├── FilterTooBroad              the jobs of a filter were not found in time; also a TimeoutError
    └── JobError                    about jobs that exist, or should
        ├── JobNotFound             no job with that id
        ├── JobNotWaiting           the job is claimed or finished
        ├── LeaseLost               the claim is no longer ours; nothing was written for it
        ├── DuplicateJob            the dedupe key is taken and the caller asked to be told
        └── WaitTimeout             the job did not finish in time; also a TimeoutError

Each message ends with what to do next. Facts are attributes, so that no caller parses a message.
Other errors of the driver pass through as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta


_SHOWN = 10
"""So many ids are spelt out in a message."""


class PgqueueError(Exception):
    """The base of all of them. They can be pickled: a process pool hands them on."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is made again from its message, which most of these do not take.
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[PgqueueError], args: tuple[Any, ...], facts: dict[str, Any]) -> PgqueueError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConfigurationError(PgqueueError):
    """Arguments or set-up of this process are wrong."""


class UnknownKind(ConfigurationError):
    """No handler is registered for `kind`."""

    def __init__(self, kind: str, known: Iterable[str] = ()) -> None:
        self.kind = kind
        self.known = tuple(sorted(known))
        listed = ", ".join(self.known) or "none"
        super().__init__(
            f"no handler for kind {kind!r} (registered: {listed}); "
            "register one with @handlers.register, or check the spelling"
        )


class SecretMissing(ConfigurationError):
    """The secret `name`, with which an endpoint is called, is nowhere; nothing was called."""

    def __init__(self, name: str, message: str = "") -> None:
        self.name = name
        super().__init__(
            message
            or f"the secret {name!r} is missing; run `pgqueue cron sync-secret {name}` to put it"
        )


class EmbeddedServerError(ConfigurationError):
    """The embedded Postgres cannot be found, made or started."""


class EndpointBusy(PgqueueError):
    """As many pokes run in this process as the endpoint allows; try in `retry_after` seconds."""

    def __init__(self, most: int, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"{most} pokes run in this process already; try again in {retry_after} s, "
            "or make the endpoint with a greater most_at_once"
        )


class DatabaseError(PgqueueError, psycopg.OperationalError):
    """The database cannot do what was asked."""


class DatabaseUnavailable(DatabaseError):
    """No connection could be had: a wrong DSN, a server that is gone, or a pool in full use."""


class PermissionDenied(DatabaseError, psycopg.errors.InsufficientPrivilege):
    """The connected role lacks a grant; the message names the `grant_access` call that gives it."""


class SchemaError(PgqueueError):
    """The database's pgqueue schema is not what this version needs."""


class SchemaMissing(SchemaError):
    """pgqueue is not installed in `schema`."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        super().__init__(
            f"pgqueue is not installed in schema {schema!r} of this database; "
            "run client.migrate() or `pgqueue migrate`"
        )


class SchemaOutdated(SchemaError):
    """The schema is of another version than this library."""


class InvalidJob(PgqueueError, ValueError):
    """A job, name or option that cannot be stored; nothing was written."""


class PayloadError(InvalidJob):
    """A payload, result or metadata value that is not storable JSON; nothing was written."""


class PayloadTooLarge(PayloadError):
    """A payload over the schema's cap; nothing was written."""


class DecryptionError(PayloadError):
    """A payload that cannot be decrypted; `key` is the id of the key that it is of.

    Its job fails, and is dead after its last attempt: bring the key back, and redrive it.
    """

    def __init__(self, key: str, why: str) -> None:
        self.key = key
        super().__init__(
            f"{why}; keep a key as long as its jobs, and redrive those once it is back"
        )


class InvalidSchedule(InvalidJob):
    """A schedule that cannot be stored; nothing was written."""


class ScheduleNotFound(PgqueueError):
    """There is no schedule `name`, or it is another tenant's."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"there is no schedule {name!r}; check its name, and that pgqueue.tenant is set to its "
            "tenant if it has one"
        )


class FilterTooBroad(PgqueueError, TimeoutError):
    """The jobs that fit a filter were not found within `deadline`; nothing was changed."""

    def __init__(self, deadline: timedelta) -> None:
        self.deadline = deadline
        super().__init__(
            f"the jobs of this filter were not found within {deadline.total_seconds():g} s; "
            "narrow it: give a state, a queue, or a time such as finished_after"
        )


class JobError(PgqueueError):
    """About jobs that exist, or should."""


class JobNotFound(JobError):
    """There is no job `job_id`, neither unfinished nor in the archive."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id}; it never existed, or its retention is over")


class JobNotWaiting(JobError):
    """Job `job_id` is not waiting any more: it is `state`. Nothing was changed."""

    def __init__(self, job_id: int, state: str) -> None:
        self.job_id = job_id
        self.state = state
        advice = (
            "cancel it, or wait for its end" if state == "claimed" else "use retry to run it again"
        )
        super().__init__(f"job {job_id} is {state}, so this cannot be done to it; {advice}")


class LeaseLost(JobError):
    """The claims of `job_ids` ended before this call; nothing was written for them.

    Another worker may be running these jobs now. Undo what can be undone and drop the result.
    """

    def __init__(self, job_ids: Iterable[int]) -> None:
        self.job_ids = tuple(job_ids)
        shown = ", ".join(map(str, self.job_ids[:_SHOWN])) + " …" * (len(self.job_ids) > _SHOWN)
        super().__init__(
            f"the lease of job {shown} is lost: it ran out, or the job was cancelled or finished "
            "elsewhere; nothing was written for it. Use a longer lease, or extend it while working"
        )


class DuplicateJob(JobError):
    """An unfinished job holds this dedupe key, and the caller asked for an error (`raise`)."""


class WaitTimeout(JobError, TimeoutError):
    """The job did not finish within the time given; it goes on."""

    def __init__(self, job_id: int, seconds: float) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} did not finish within {seconds:g} s; it is still in the queue"
        )
