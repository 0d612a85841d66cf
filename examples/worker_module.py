"""A module of handlers, as `pgqueue worker worker_module:handlers -q shop` runs it.

Run as a script it enqueues some jobs and works until none is ready.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import attrs

import pgqueue

logger = logging.getLogger("shop")
handlers = pgqueue.Handlers()


@attrs.frozen
class Mail:
    """The payload of `email.send`. New fields need a default: jobs enqueued before lack them."""

    to: str
    subject: str = "Hello"


@handlers.register(
    "email.send",
    payload=Mail,
    queue="shop",
    retry=pgqueue.Exponential(base=timedelta(seconds=5), cap=timedelta(minutes=10)),
    max_attempts=8,
    dedupe=lambda mail: f"{mail.to}/{mail.subject}",
)
def send(job: pgqueue.Job[Mail]) -> object:
    """Send a mail. A sync handler runs in a thread; what it returns is the job's result."""
    if "@" not in job.payload.to:
        return pgqueue.Cancel(f"{job.payload.to} is no address")  # trying again would not help
    logger.info("mail to %s: %s", job.payload.to, job.payload.subject)
    return {"characters": len(job.payload.subject)}


@handlers.register("page.fetch", queue="shop", timeout=timedelta(seconds=20))
async def fetch(job: pgqueue.Job) -> object:
    """Fetch a page. An async handler runs on the event loop; after its timeout it is cancelled."""
    await asyncio.sleep(0.01)
    if job.attempt == 1:
        return pgqueue.Retry(timedelta(0), "the server was busy")
    logger.info("fetched %s with attempt %s", job.payload["url"], job.attempt)
    return None


@handlers.register("stock.index", queue="shop", batch=100)
def index(jobs: Sequence[pgqueue.Job]) -> None:
    """Index articles. A batch handler takes up to 100 jobs at once."""
    logger.info("indexed %s", sorted(job.payload["article"] for job in jobs))


@handlers.middleware
@contextmanager
def timed(job: pgqueue.Job) -> Iterator[None]:
    """Tell how long it took. Entered around every call; of a batch it gets the first job."""
    started = time.perf_counter()
    try:
        yield
    finally:
        logger.info("  %s took %.3f s", job.kind, time.perf_counter() - started)


@handlers.on_end
def count(event: pgqueue.AttemptEnded) -> None:
    """Tell how it ended. Called after every attempt, once the database knows of it."""
    job = event.job
    logger.info("  %s %s, attempt %s: %s", job.kind, job.id, job.attempt, event.outcome)


def main() -> None:
    """Enqueue one job of each sort, and work until none is ready."""
    with pgqueue.Client() as client:
        client.migrate()
        send.enqueue(client, Mail("ada@example.org"))
        send.enqueue(client, Mail("nobody"))
        fetch.enqueue(client, {"url": "https://example.org"})
        client.enqueue_many([index.new({"article": n}) for n in range(5)])
        pgqueue.Worker(client, handlers, queues="shop").run(until_idle=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
