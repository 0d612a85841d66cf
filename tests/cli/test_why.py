"""`why` and `workers`."""

from __future__ import annotations

import pytest

from pgqueue import Client
from pgqueue.cli.exits import Exit

from .conftest import Run


def test_answer_stands_first_and_what_to_do_last(run: Run, pgqueue_client: Client) -> None:
    """With a table of the gates between, in both ways of writing times."""
    job_id = pgqueue_client.enqueue("k").id
    pgqueue_client.pause("default", reason="a move")
    done = run("why", job_id)
    first, *_, last = done.out.strip().splitlines()
    assert done.code == Exit.NEGATIVE
    assert first.startswith(f"Job {job_id} (ready, k): Queue default was paused now")
    assert "a move" in first
    assert "GATE" in done.out
    assert last.strip().startswith("-> pgqueue worker")


def test_json_has_the_gates_with_their_facts(run: Run, pgqueue_client: Client) -> None:
    """For programs and dashboards."""
    job_id = pgqueue_client.enqueue("k").id
    told = run("why", job_id, "--json").json
    assert (told["subject"], told["job_id"], told["level"]) == ("job", job_id, "blocked")
    assert told["sentence"] == told["gates"][0]["sentence"]
    assert told["gates"][0]["code"] == "no_worker"
    assert told["gates"][0]["facts"]["queue"] == "default"


def test_exit_codes(run: Run, pgqueue_client: Client) -> None:
    """0 where nobody has to act, 1 where somebody has, 6 where nothing is."""
    job_id = pgqueue_client.enqueue("k", dedupe_key="x").id
    assert run("why", job_id).code == Exit.NEGATIVE
    pgqueue_client.ack(pgqueue_client.claim())
    assert run("why", job_id).code == Exit.OK
    assert run("why", job_id + 1).code == Exit.NOT_FOUND
    assert run("why", "--schedule", "none").code == Exit.NOT_FOUND
    assert run("why", "--queue", "none").code == Exit.NOT_FOUND
    assert run("why", "--dedupe-key", "x", "--kind", "k").code == Exit.OK


@pytest.mark.parametrize(
    "given", [(), ("1", "--queue", "q"), ("1", "--kind", "k"), ("--schedule", "s", "-q", "q")]
)
def test_it_is_asked_about_one_thing(run: Run, given: tuple[str, ...]) -> None:
    """Anything else is a mistake."""
    assert run("why", *given).code == Exit.USAGE


def test_workers_shows_what_each_runs(run: Run, pgqueue_client: Client) -> None:
    """As a table, and as JSON."""
    assert run("workers").out == "no workers\n"
    with pgqueue_client.driver.connection() as conn:
        conn.execute("select pgqueue.register_worker('w', '{default}', '{k}', 2)")
        conn.execute("select pgqueue.register_worker('s')")
    pgqueue_client.enqueue_many([("k", None)] * 5)
    pgqueue_client.claim(limit=5, worker="w")
    table = run("workers").out
    assert "and 2 more" in table
    assert "scheduler" in table
    told = {worker["id"]: worker for worker in run("workers", "--json").lines}
    assert told["w"]["claimed"] == len(told["w"]["jobs"]) == 5
    assert told["w"]["alive"] is True
    assert told["s"]["scheduler"] is True
