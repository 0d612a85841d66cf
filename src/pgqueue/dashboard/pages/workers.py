"""Who works: each process, when it last said that it lives, and what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit


def workers(visit: Visit) -> Response:
    """All workers, those that are silent last."""
    client = visit.desk.client
    found = visit.read(lambda conn: client.workers(conn=conn))
    alive = [each for each in found if each.alive]
    return visit.page(
        "workers.html",
        section="workers",
        version=visit.version,
        alive=alive,
        silent=[each for each in found if not each.alive],
        running=sum(each.running for each in alive),
        room=sum(each.concurrency for each in alive),
    )
