"""Rounds of the mix under a held snapshot, and what is measured in each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import attrs
import psycopg
from benchmarks.growth.parts import SPAWN
from benchmarks.held import mix
from benchmarks.peers.cluster import Cluster
from benchmarks.peers.figures import quantile
from benchmarks.peers.held import snapshot

from pgqueue import Client

CLAIM = r"pgqueue\W*\.\W*claim\W*\("
MAINTAIN = r"pgqueue\W*\.\W*maintain\W*\("
PROBES = 5
"""So many jobs a cold claim finds, and so often each step of the upkeep is called."""
DEADLINE = 120.0
"""Seconds that a round may take, and each part of it."""
DRAINED = """
    with round as (
        select claimed_at, finished_at, kind = 'noop' and run_at <= enqueued_at as plain
        from pgqueue.archive where id between %s and %s and state = 'succeeded'
    ), ends as (
        select min(claimed_at) as first, max(finished_at) filter (where plain) as last from round
    )
    select count(*) filter (where finished_at <= last),
        extract(epoch from max(last) - max(first))::float8, count(*)
    from round, ends
"""


class Void(RuntimeError):
    """The database shows something else than what was to be measured."""


@attrs.frozen
class Times:
    """Milliseconds of several calls."""

    p50: float
    p99: float
    longest: float


@attrs.frozen
class Round:
    """One round under the held snapshot."""

    churned: int
    """Jobs finished since the snapshot was taken, this round's included."""
    enqueue: float
    """Jobs per second, all in one transaction."""
    drain: float
    """Jobs per second, from the first claim until the last job that was ready at once is finished;
    those that were due or came back meanwhile count."""
    claim: Times
    """Of the long-lived worker's claims, in the server."""
    maintain: Times
    """Of its calls of `maintain`, in the server."""
    promote: Times
    """From the floor, as most rounds of maintenance do it; seen by the caller, as all below."""
    promote_rescan: Times
    """From the very bottom, as the others do it. `reap` likewise."""
    reap: Times
    reap_rescan: Times
    cold_claim: Times
    """The first claim of a new connection, by SQL, with the database's floors (null)."""
    bottom_claim: Times
    """The same with floors of 0: a rescan."""
    pick_up: float
    """Milliseconds from the first claim of a worker that starts now to the start of its job."""


def rounds(cluster: Cluster, count: int, size: int) -> Iterator[Round]:
    """Each of the `count` rounds of `size` jobs as it ends.

    Raises:
        Void: not every job was run once and is finished in the database.
    """
    dsn = cluster.create("held")
    mix.install(dsn)
    cluster.log_statement_times("held")
    with snapshot(dsn), _child(mix.work, dsn) as worker, Client(dsn) as client:
        worker.recv()
        churned = 0
        for number in range(count):
            logged = cluster.logged()
            ids, enqueue = _enqueue(dsn, client, size, number)
            churned += len(ids)
            worker.send(churned)
            if not worker.poll(DEADLINE):
                raise Void(f"round {number + 1} has not ended within {DEADLINE:.0f} s")
            worker.recv()
            drain = _drained(client, ids)
            claim = _times(cluster.statement_times(CLAIM, logged))
            maintain = _times(cluster.statement_times(MAINTAIN, logged))
            yield Round(churned, enqueue, drain, claim, maintain, **_probe(dsn, client))
        worker.send(None)


def _enqueue(dsn: str, client: Client, size: int, seed: int) -> tuple[Sequence[int], float]:
    """Their ids, and how many per second: in one transaction, so that all are seen at once."""
    jobs = list(mix.jobs(size, seed))
    with psycopg.connect(dsn) as conn:
        started = time.perf_counter()
        result = client.enqueue_many(jobs, conn=conn)
        conn.commit()
        return result.ids, size / (time.perf_counter() - started)


def _drained(client: Client, ids: Sequence[int]) -> float:
    """Jobs per second of the round with these ids; waits until the last ack is in."""
    deadline = time.monotonic() + DEADLINE
    with client.driver.connection() as conn:
        while True:
            row = conn.execute(DRAINED, (min(ids), max(ids))).fetchone()
            done, seconds, stored = row or (0, 0, 0)
            if stored == len(ids):
                return float(done / seconds)
            if time.monotonic() > deadline:
                raise Void(f"of {len(ids)} jobs of the round {stored} are finished in the database")
            time.sleep(0.1)


# Those that come from outside


def _probe(dsn: str, client: Client) -> dict[str, Any]:
    calls = {
        "promote": "select pgqueue.promote(5000, false)",
        "promote_rescan": "select pgqueue.promote(5000, true)",
        "reap": "select pgqueue.reap(1000, false)",
        "reap_rescan": "select pgqueue.reap(1000, true)",
    }
    found: dict[str, Any] = {name: _calls(dsn, sql) for name, sql in calls.items()}
    found["cold_claim"] = _cold_claims(dsn, client, "null")
    found["bottom_claim"] = _cold_claims(dsn, client, "array_fill(0::bigint, array[10])")
    found["pick_up"] = _pick_up(dsn, client)
    return found


def _calls(dsn: str, sql: str) -> Times:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return _times([_took(lambda: conn.execute(sql.encode()))[0] for _ in range(PROBES)])


def _cold_claims(dsn: str, client: Client, floors: str) -> Times:
    """Of jobs of a kind that the worker does not run, each claim on a new connection."""
    claim = (
        f"select id, token from pgqueue.claim('{{{mix.QUEUE}}}', 1, kinds => '{{probe}}', "
        f"floors => {floors})"
    )
    took = []
    client.enqueue_many([("probe", mix.PAYLOAD)] * PROBES, queue=mix.QUEUE)
    for _ in range(PROBES):
        with psycopg.connect(dsn, autocommit=True) as conn:
            milliseconds, cursor = _took(lambda: conn.execute(claim.encode()))
            took.append(milliseconds)
            job = cursor.fetchone()
            if job is None:
                raise Void("a cold claim found nothing")
            conn.execute("select pgqueue.ack(%s, %s)", ([job[0]], [job[1]]))
    return _times(took)


def _pick_up(dsn: str, client: Client) -> float:
    client.enqueue("late", queue=mix.QUEUE)
    with _child(mix.pick_up, dsn) as late:
        if not late.poll(DEADLINE):
            raise Void("a worker that started late found nothing")
        return 1000 * float(late.recv())


def _took(act: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = act()
    return 1000 * (time.perf_counter() - started), result


def _times(milliseconds: list[float]) -> Times:
    if not milliseconds:
        raise Void("the server's log has no such statement")
    ordered = sorted(milliseconds)
    return Times(quantile(ordered, 0.5), quantile(ordered, 0.99), ordered[-1])


@contextmanager
def _child(target: Callable[[str, Connection], None], dsn: str) -> Iterator[Connection]:
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=target, args=(dsn, theirs), daemon=True)
    child.start()
    theirs.close()  # so that a child that dies is noticed
    try:
        yield ours
        child.join(30)
    finally:
        child.kill()
