"""Claim and end jobs in a loop of your own, without a Worker.

For scripts, for cron, and for programs that have a loop already. You owe what the Worker does by
itself: extend the lease of a job that takes long, give up a job whose lease was lost, and call
`maintain` now and then if no worker runs anywhere.
"""

import time
from datetime import timedelta

import pgqueue

LEASE = timedelta(seconds=10)


def work(client: pgqueue.Client, queue: str) -> None:
    """Run jobs until none is ready."""
    while True:
        client.maintain()  # makes due jobs ready, and puts back those of crashed claims
        jobs = client.claim(queue, limit=10, lease=LEASE)
        if not jobs:
            return
        for job in jobs:
            attempt(client, job)


def attempt(client: pgqueue.Client, job: pgqueue.Job) -> None:
    """Run one job and report how that ended."""
    try:
        run(client, job)
        client.ack(job)
    except pgqueue.LeaseLost:
        print(f"job {job.id} is not ours any more; what we did of it may be done again")
    except Exception as error:  # noqa: BLE001 - whatever it is, it goes to the job's history
        client.fail(job, error)


def run(client: pgqueue.Client, job: pgqueue.Job) -> None:
    """Do a long job in steps, and renew the lease after each."""
    for page in range(job.payload["pages"]):
        print(f"job {job.id}: page {page + 1}")
        cancel_requested = client.extend(job, LEASE)[job.id]
        if cancel_requested:
            raise RuntimeError("cancelled")  # fail() ends a job as cancelled if that was asked for


def show_a_lost_lease(client: pgqueue.Client) -> None:
    """Sleep through a lease, and be refused."""
    client.enqueue(
        "report.print", {"pages": 1}, queue="reports", retry=pgqueue.Delays([timedelta(0)])
    )
    (late,) = client.claim("reports", lease=timedelta(milliseconds=50))
    while not client.maintain().reaped:  # somebody's maintenance finds that the lease is over
        time.sleep(0.1)
    work(client, "reports")  # and somebody runs the job
    try:
        client.ack(late)
    except pgqueue.LeaseLost as error:
        print("refused:", error)


def main() -> None:
    """Enqueue a job and run it, then lose a lease."""
    with pgqueue.Client() as client:
        client.migrate()
        client.enqueue("report.print", {"pages": 2}, queue="reports")
        work(client, "reports")
        show_a_lost_lease(client)


if __name__ == "__main__":
    main()
