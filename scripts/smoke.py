"""Enqueue, claim and ack one job with the installed package, on a throw-away server."""

from datetime import timedelta
from pathlib import Path

import pgqueue
from pgqueue import embedded


def main() -> None:
    """Run one job through; any failure is an exception."""
    with embedded.temporary() as server, pgqueue.Client(server.dsn) as client:
        client.migrate()
        client.enqueue("smoke", {"n": 1}, queue="smoke")
        (job,) = client.claim("smoke", limit=10, lease=timedelta(seconds=30))
        client.ack(job)
        if job.payload != {"n": 1} or client.claim("smoke", limit=10, lease=timedelta(seconds=30)):
            raise SystemExit(f"unexpected: {job}")
    print("enqueue, claim, ack:", Path(pgqueue.__file__).parent)


if __name__ == "__main__":
    main()
