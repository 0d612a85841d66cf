"""Recurring enqueues: what a schedule is, and the clients' operations on schedules."""

from pgqueue.schedules.api import AsyncSchedules, Schedules
from pgqueue.schedules.models import (
    Overlap,
    Schedule,
    ScheduleChange,
    ScheduleRun,
    ScheduleState,
    StoredRetry,
)
from pgqueue.schedules.statements import ScheduleStatements

__all__ = [
    "AsyncSchedules",
    "Overlap",
    "Schedule",
    "ScheduleChange",
    "ScheduleRun",
    "ScheduleState",
    "ScheduleStatements",
    "Schedules",
    "StoredRetry",
]
