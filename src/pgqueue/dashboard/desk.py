"""What all requests to one dashboard share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue.dashboard import rendering
from pgqueue.dashboard.cache import Cached
from pgqueue.dashboard.database import Database
from pgqueue.dashboard.live import Live
from pgqueue.dashboard.sessions import Sessions, Signer
from pgqueue.dashboard.throttle import Throttle
from pgqueue.doctor import Finding, examine

if TYPE_CHECKING:
    from starlette.routing import Router

    from pgqueue.client import Client
    from pgqueue.dashboard.options import Options
    from pgqueue.models import QueueStats
    from pgqueue.operations import Pause

EXAMINE_EVERY = 60.0
COUNT_EVERY = 2.0
"""Seconds. What takes long is done less often; see `Cached`."""


class Desk:
    """The queue, the keys, and the answers that are too dear for each hit."""

    router: Router

    def __init__(self, client: Client, options: Options) -> None:
        self.client = client
        self.options = options
        self.database = Database(client, options.deadline)
        self.signer = Signer(options.secret)
        self.sessions = Sessions(self.signer, options.session.total_seconds())
        # By address, and by name: see `Throttle`.
        self.by_address = Throttle(burst=8, pause=20.0)
        self.by_name = Throttle(burst=20, pause=3.0)
        self.templates = rendering.templates()
        self.live = Live(self.database)
        self.doctor: Cached[list[Finding]] = Cached(self._examine, EXAMINE_EVERY)
        self.stats: Cached[list[QueueStats]] = Cached(self._count, COUNT_EVERY)
        self.paused: Cached[Pause | None] = Cached(self._look_for_pause, COUNT_EVERY)

    def changed(self) -> None:
        """Something was done here: the next page shows it."""
        for cached in (self.stats, self.paused, self.live.version):
            cached.forget()

    def _examine(self) -> list[Finding]:
        return examine(self.client)

    def _look_for_pause(self) -> Pause | None:
        return self.database.read(lambda conn: self.client.operations.paused(conn=conn))

    def _count(self) -> list[QueueStats]:
        return self.database.read(lambda conn: self.client.stats(conn=conn))
