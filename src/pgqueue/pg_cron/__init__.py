"""Has pg_cron do the upkeep, and poke an HTTP endpoint through pg_net when there is work.

    from pgqueue.pg_cron import PgCron, Poke

    cron = PgCron(client)
    cron.install()                                  # upkeep and schedules, every minute
    cron.install(Poke(name="media", url=..., queue="media"), every=timedelta(seconds=10))
    for finding in cron.verify(): ...

docs/cron.md says which way to choose, and how to set it up.
"""

from __future__ import annotations

from pgqueue.pg_cron.api import PgCron
from pgqueue.pg_cron.models import (
    CronFailure,
    CronFinding,
    CronJob,
    CronRun,
    Poke,
)
from pgqueue.pg_cron.script import install_script, remove_script
from pgqueue.pg_cron.verify_script import verify_script

__all__ = [
    "CronFailure",
    "CronFinding",
    "CronJob",
    "CronRun",
    "PgCron",
    "Poke",
    "install_script",
    "remove_script",
    "verify_script",
]
