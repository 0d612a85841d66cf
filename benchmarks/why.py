"""How long `client.why` takes where many jobs are ready, and where there are many queues.

    .venv/bin/python benchmarks/why.py [--jobs 5000000] [--queues 10000]

Each question is asked once, then 20 times: the least, the median and the most are printed, in ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from pgqueue import Client, Explanation, embedded

FILL = """
insert into pgqueue.job (queue, kind, payload, max_attempts, priority)
select 'default', 'k', '{"to": "ada@example.org"}', 20, case when n %% 10 = 0 then 2 else 5 end
from generate_series(1, %s) n
"""
SPREAD = """
select count(*) from pgqueue.enqueue_many((select jsonb_agg(jsonb_build_object(
    'kind', 'k', 'queue', 'queue-' || n)) from generate_series(%s::int, %s::int) n))
"""


def ask(name: str, question: Callable[[], Explanation], times: int = 20) -> None:
    """Asks, and prints how long that took."""
    taken = []
    found = question()
    for _ in range(times):
        began = time.perf_counter()
        question()
        taken.append((time.perf_counter() - began) * 1000)
    figures = f"{min(taken):6.1f} {statistics.median(taken):6.1f} {max(taken):6.1f}"
    print(f"{name:28} {figures}  {found.gate.code}: {found.gates[-1].sentence[:60]}", flush=True)


def main() -> None:
    """Fills the tables, and asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000_000)
    parser.add_argument("--queues", type=int, default=10_000)
    given = parser.parse_args()
    with (
        embedded.temporary(settings={"shared_buffers": "512MB"}) as server,
        Client(server.dsn) as client,
    ):
        client.migrate()
        with client.driver.connection() as conn:
            conn.execute("select pgqueue._enqueued('{default,default}', '{2,5}'::smallint[])")
            for start in range(0, given.jobs, 500_000):
                conn.execute(FILL, (min(500_000, given.jobs - start),))
            conn.execute("select pgqueue.register_worker('w', '{default}', '{k}', 20)")
        client.maintain()
        first = client.claim(limit=2000, worker="w")
        client.ack(first)
        client.claim(limit=1000, worker="w")
        job_id = client.enqueue("k").id
        claimed = client.claim(worker="w")[0].id
        print(f"{given.jobs:,} ready jobs; Python {sys.version.split()[0]}")
        ask("the last of them", lambda: client.why(job_id))
        ask("one in the middle", lambda: client.why(given.jobs // 2))
        ask("one of the higher priority", lambda: client.why(given.jobs - given.jobs % 10))
        ask("one that runs", lambda: client.why(claimed))
        ask("one that succeeded", lambda: client.why(first[0].id))
        ask("one that never was", lambda: client.why(10**12))
        ask("the queue", lambda: client.why_queue("default"))
        ask("a key", lambda: client.why_key("x", queue="default"))
        with client.driver.connection() as conn:
            for start in range(1, given.queues, 1000):
                conn.execute(SPREAD, (start, start + 999))
            conn.execute(
                "select pgqueue.register_worker('every', "
                "array(select 'queue-' || n from generate_series(1, %s) n), '{k}', 20)",
                (given.queues,),
            )
        print(f"and {given.queues:,} queues, which one worker takes")
        some = client.list(queue="queue-7", limit=1)[0].id
        ask("a job of one", lambda: client.why(some))
        ask("the last of the big queue", lambda: client.why(job_id))
        ask("one of the queues", lambda: client.why_queue("queue-7"))
        began = time.perf_counter()
        client.workers()
        print(f"{'workers()':32} {(time.perf_counter() - began) * 1000:7.1f} ms")


if __name__ == "__main__":
    main()
