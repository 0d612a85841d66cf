"""Many pokes at once, in threads and processes, some of which die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import Client, Handlers
from pgqueue.endpoint import Endpoint

from .conftest import SECRET, Make

HEADERS = {"Authorization": f"Bearer {SECRET}"}
JOBS, THREADS = 500, 20
LIMIT, CONCURRENCY, AT_ONCE = 10, 5, 4


def test_each_job_is_done_once_and_no_limit_is_broken(make: Make, client: Client) -> None:
    """20 threads poke until nothing is left of 500 jobs, and are turned away at times."""
    handlers, lock = Handlers(), threading.Lock()
    done: Counter[int] = Counter()
    running, most = 0, 0

    @handlers.register("count")
    def _count(job: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            done[job.payload["n"]] += 1
        time.sleep(0.001)
        with lock:
            running -= 1

    endpoint = make(handlers, limit=LIMIT, concurrency=CONCURRENCY, most_at_once=AT_ONCE)
    client.enqueue_many([("count", {"n": n}) for n in range(JOBS)])
    statuses: Counter[int] = Counter()
    answered = 0

    def poke_until_done(_: int) -> None:
        nonlocal answered
        while sum(done.values()) < JOBS:
            answer = endpoint.respond("POST", HEADERS)
            with lock:
                statuses[answer.status] += 1
            if answer.status == 200:
                counts = json.loads(answer.body)
                assert counts["processed"] == counts["succeeded"] <= LIMIT
                with lock:
                    answered += counts["processed"]
            else:
                time.sleep(0.01)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(poke_until_done, range(THREADS)))
    assert done == Counter(range(JOBS))
    assert set(statuses) <= {200, 429}
    assert most <= CONCURRENCY * AT_ONCE
    assert answered == JOBS
    assert {str(job.state) for job in client.list(limit=JOBS)} == {"succeeded"}


SCRIPT = f"""
import sys, time
from datetime import timedelta
from pgqueue import Handlers
from pgqueue.endpoint import Endpoint

handlers = Handlers()

@handlers.register("slow")
def slow(job):
    print("started", flush=True)
    time.sleep(60)

budget = timedelta(seconds=1)
Endpoint(sys.argv[1], handlers, secrets="{SECRET}", budget=budget, lease=budget * 2).process()
"""


def test_jobs_of_a_killed_process_run_again_after_their_leases(
    make: Make, client: Client, tmp_path: Path, pgqueue_dsn: str
) -> None:
    """And not before; the attempt that was lost counts."""
    script = tmp_path / "poke.py"
    script.write_text(SCRIPT)
    client.enqueue("slow")
    with subprocess.Popen(
        [sys.executable, str(script), pgqueue_dsn], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGKILL)
    handlers = Handlers()
    handlers.register("slow")(lambda _: None)
    endpoint = make(handlers)
    answers = [endpoint.process()]
    deadline = time.monotonic() + 15
    while not answers[-1]["processed"] and time.monotonic() < deadline:
        time.sleep(0.05)
        answers.append(endpoint.process())
    assert answers[0]["processed"] == 0
    (result,) = answers[-1]["results"]
    assert (result["outcome"], result["attempt"]) == ("succeeded", 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_of_a_fork_begins_anew(make: Make, client: Client) -> None:
    """As servers do that load an app and fork: parent and child both poke afterwards."""
    endpoint = make()
    client.enqueue("sync")
    assert endpoint.process()["succeeded"] == 1
    client.enqueue("sync")
    pid = os.fork()
    if pid == 0:  # pragma: no cover - measured nowhere: it ends at once
        ended_well = False
        try:
            ended_well = endpoint.process()["succeeded"] == 1
        finally:
            os._exit(0 if ended_well else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.enqueue("sync")
    assert endpoint.process()["succeeded"] == 1


def test_pokes_survive_the_loss_of_their_connections(make: Make, client: Client) -> None:
    """The first one after it may be told so; the next one works."""
    endpoint = make()
    endpoint.process()
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        conn.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    client.enqueue("sync")
    statuses = [endpoint.respond("POST", HEADERS).status for _ in range(4)]
    assert statuses[-1] == 200
    assert [str(job.state) for job in client.list()] == ["succeeded"]


def test_poke_is_answered_in_time_while_the_database_is_silent(
    client: Client, handlers: Handlers
) -> None:
    """Somebody has locked the tables: the budget holds, and a late claim is given back."""
    budget = timedelta(seconds=0.5)
    job_id = client.enqueue("sync").id
    with Endpoint(client, handlers, secrets=SECRET, budget=budget) as endpoint:
        with psycopg.connect(client.dsn) as conn:
            conn.execute("lock table pgqueue.job in access exclusive mode")
            started = time.monotonic()
            answer = endpoint.process()
            assert time.monotonic() - started < 10 * budget.total_seconds()
            assert (answer["processed"], answer["more"]) == (0, True)
        deadline = time.monotonic() + 15
        while endpoint._state.pokes and time.monotonic() < deadline:
            time.sleep(0.01)
        job = client.get(job_id)
        assert (str(job.state), job.attempt) == ("ready", 0)


def test_claim_that_comes_too_late_is_given_back(
    client: Client, handlers: Handlers, pgqueue_dsn: str
) -> None:
    """The database answers after the budget: nothing is run, and nothing waits for its lease."""
    budget = timedelta(seconds=0.5)
    job_id = client.enqueue("sync").id
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute(
            "create function wait() returns trigger language plpgsql as "
            "$$ begin perform pg_advisory_xact_lock(1); return new; end $$;"
            "create trigger wait before update on pgqueue.job for each row "
            "when (old.lease_until is null and new.lease_until is not null) "
            "execute function wait(); select pg_advisory_lock(1)"
        )
        with Endpoint(client, handlers, secrets=SECRET, budget=budget) as endpoint:
            answer = endpoint.process()
            assert (answer["results"], answer["more"]) == ([], True)
            (poke,) = endpoint._state.pokes
            conn.execute("select pg_advisory_unlock(1)")
            deadline = time.monotonic() + 15
            while endpoint._state.pokes and time.monotonic() < deadline:
                time.sleep(0.01)
            (result,) = poke.answer()["results"]
    assert (result["id"], result["outcome"]) == (job_id, "released")
    job = client.get(job_id)
    assert (str(job.state), job.attempt) == ("ready", 0)
