"""The rule about pg_cron and pg_net."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import attrs

from pgqueue import readers
from pgqueue.alerts.notices import Alarm
from pgqueue.alerts.rules import Rule
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from pgqueue.alerts.rules import Seen
    from pgqueue.pg_cron import PgCron


@attrs.frozen(kw_only=True)
class PokeTrouble(Rule):
    """pg_cron does not run, or requests of pg_net wait, fail or are lost: what `verify` finds.

    Where no endpoint is installed it finds nothing, so that it may be left in where workers do
    without pg_cron. Let something watch that needs no poke: a process that serves, or `pgqueue
    watch`.
    """

    name: ClassVar[str] = "poke_trouble"
    cron: PgCron

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one for each check that is bad. Jobs are the other rules' business."""
        del seen
        client = self.cron.client
        sql = f"select exists (select from {client.statements.quoted}.poke)"
        if not client.driver.run(Statement(sql, (), readers.one)):
            return
        for finding in self.cron.verify():
            if not (finding.ok or finding.check.startswith("queue ")):
                yield Alarm(finding.check, f"{finding.seen}; {finding.advice}", 1)
