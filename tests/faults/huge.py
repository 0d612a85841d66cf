"""A process that tries to send 100 MB, and tells how long that took and what memory it cost.

    python -m tests.faults.huge DSN WAY

Prints the seconds of CPU and the bytes by which the process grew at its peak, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pgqueue import Client, Handlers, NewJob, PayloadTooLarge, Worker

SIZE = 100_000_000


def main(dsn: str, way: str) -> None:
    """Tries it one way."""
    with Client(dsn) as client:
        client.enqueue("small")
        (job,) = client.claim(kinds=["small"])
        value = "x" * SIZE
        ways: dict[str, Callable[[], object]] = {
            "enqueue": lambda: client.enqueue("k", {"value": value}),
            "enqueue_many": lambda: client.enqueue_many([("k", value)]),
            "COPY": lambda: client.enqueue_many([*[("k", 0)] * 100, ("k", value)]),
            "with a key": lambda: client.enqueue_many([NewJob("k", value, dedupe_key="x")]),
            "metadata": lambda: client.enqueue("k", metadata={"value": value}),
            "result": lambda: client.ack(job, result=[value]),
            "handler": lambda: _run_handler(client, value),
        }
        before, began = _peak(), time.process_time()
        for _ in range(3):
            try:
                ways[way]()
            except PayloadTooLarge:
                continue
            raise SystemExit(f"{way}: it was not refused")
        seconds = (time.process_time() - began) / 3
        client.cancel_claimed(job)
        print(json.dumps([seconds, _peak() - before]))  # noqa: T201 - that is what it is for


def _run_handler(client: Client, value: str) -> None:
    """What a handler returns; the error is found in the job's history."""
    handlers = Handlers()
    kind = handlers.register("huge", max_attempts=1)(lambda _: value)
    job_id = kind.enqueue(client).id
    Worker(client, handlers).run(until_idle=True)
    found = client.get(job_id)
    if (found.state, found.history[0].error_class) == ("dead", "PayloadTooLarge"):
        raise PayloadTooLarge(found.history[0].error or "")


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says begins with the memory of the parent
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
