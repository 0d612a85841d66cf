"""What operators see and do: lists, figures, bulk actions, the switch, and the audit log."""

from pgqueue.operations.aapi import AsyncOperations
from pgqueue.operations.api import Operations
from pgqueue.operations.history import Histogram, Minute, total
from pgqueue.operations.models import (
    Action,
    AuditEntry,
    BulkResult,
    Count,
    JobFilter,
    Page,
    Pause,
)
from pgqueue.operations.statements import OperationStatements

__all__ = [
    "Action",
    "AsyncOperations",
    "AuditEntry",
    "BulkResult",
    "Count",
    "Histogram",
    "JobFilter",
    "Minute",
    "OperationStatements",
    "Operations",
    "Page",
    "Pause",
    "total",
]
