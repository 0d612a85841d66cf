"""Tells people what is wrong: rules, who is told, and how it is told once however many watch.

    watch = Watch(dsn, senders=[Webhook("https://hooks.slack.com/services/...")])
    Worker(client, handlers, observers=[watch]).run()

or `pgqueue watch` in a process of its own.
"""

from __future__ import annotations

from pgqueue.alerts.notices import Alarm, Notice
from pgqueue.alerts.pokes import PokeTrouble
from pgqueue.alerts.rules import (
    DEFAULT_RULES,
    DeadJobs,
    HorizonPinned,
    NoWorkers,
    QueueLatency,
    RepeatedFailures,
    Rule,
    ScheduleOverdue,
    Seen,
    UpkeepOverdue,
)
from pgqueue.alerts.senders import Sender, Sentry, Webhook
from pgqueue.alerts.watch import Watch

__all__ = [
    "DEFAULT_RULES",
    "Alarm",
    "DeadJobs",
    "HorizonPinned",
    "NoWorkers",
    "Notice",
    "PokeTrouble",
    "QueueLatency",
    "RepeatedFailures",
    "Rule",
    "ScheduleOverdue",
    "Seen",
    "Sender",
    "Sentry",
    "UpkeepOverdue",
    "Watch",
    "Webhook",
]
