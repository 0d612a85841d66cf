"""A job queue on the Postgres you already have: enqueue in your transaction, claim, ack.

The whole public API stands on this page; each name is documented where it lives.
"""

from __future__ import annotations

from pgqueue import embedded, errors
from pgqueue.aclient import AsyncClient
from pgqueue.client import Client
from pgqueue.codec import Codec
from pgqueue.encryption import EncryptedCodec, reencrypt
from pgqueue.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailable,
    DecryptionError,
    DuplicateJob,
    EmbeddedServerError,
    EndpointBusy,
    FilterTooBroad,
    InvalidJob,
    InvalidSchedule,
    JobError,
    JobNotFound,
    JobNotWaiting,
    LeaseLost,
    PayloadError,
    PayloadTooLarge,
    PermissionDenied,
    PgqueueError,
    ScheduleNotFound,
    SchemaError,
    SchemaMissing,
    SchemaOutdated,
    SecretMissing,
    UnknownKind,
    WaitTimeout,
)
from pgqueue.events import AttemptEnded, Observer, Outcome
from pgqueue.handlers import Handlers, Kind
from pgqueue.jsontext import Json
from pgqueue.migrate import SchemaState
from pgqueue.models import (
    Attempt,
    EnqueueManyResult,
    EnqueueResult,
    Job,
    JobDetail,
    JobState,
    JobSummary,
    Maintenance,
    NewJob,
    QueueStats,
)
from pgqueue.operations import (
    AuditEntry,
    BulkResult,
    Count,
    Histogram,
    JobFilter,
    Minute,
    Operations,
    Page,
    Pause,
)
from pgqueue.outcomes import Cancel, Retry, Skip, Snooze
from pgqueue.redaction import mask_payload
from pgqueue.retry import Constant, Delays, Exponential, RetryPolicy
from pgqueue.schedules import Schedule, ScheduleChange, ScheduleRun, Schedules, ScheduleState
from pgqueue.version import __version__
from pgqueue.worker import Worker
from pgqueue.worker.engine import Health

__all__ = [
    "AsyncClient",
    "Attempt",
    "AttemptEnded",
    "AuditEntry",
    "BulkResult",
    "Cancel",
    "Client",
    "Codec",
    "ConfigurationError",
    "Constant",
    "Count",
    "DatabaseError",
    "DatabaseUnavailable",
    "DecryptionError",
    "Delays",
    "DuplicateJob",
    "EmbeddedServerError",
    "EncryptedCodec",
    "EndpointBusy",
    "EnqueueManyResult",
    "EnqueueResult",
    "Exponential",
    "FilterTooBroad",
    "Handlers",
    "Health",
    "Histogram",
    "InvalidJob",
    "InvalidSchedule",
    "Job",
    "JobDetail",
    "JobError",
    "JobFilter",
    "JobNotFound",
    "JobNotWaiting",
    "JobState",
    "JobSummary",
    "Json",
    "Kind",
    "LeaseLost",
    "Maintenance",
    "Minute",
    "NewJob",
    "Observer",
    "Operations",
    "Outcome",
    "Page",
    "Pause",
    "PayloadError",
    "PayloadTooLarge",
    "PermissionDenied",
    "PgqueueError",
    "QueueStats",
    "Retry",
    "RetryPolicy",
    "Schedule",
    "ScheduleChange",
    "ScheduleNotFound",
    "ScheduleRun",
    "ScheduleState",
    "Schedules",
    "SchemaError",
    "SchemaMissing",
    "SchemaOutdated",
    "SchemaState",
    "SecretMissing",
    "Skip",
    "Snooze",
    "UnknownKind",
    "WaitTimeout",
    "Worker",
    "__version__",
    "embedded",
    "errors",
    "mask_payload",
    "reencrypt",
]
