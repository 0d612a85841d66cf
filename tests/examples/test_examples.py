"""Each example of one file runs as its own process, as a reader would run it."""

from __future__ import annotations

import pytest

from pgqueue.client import Client

from .conftest import EXAMPLES, Run

HELPERS = {"third_party.py"}
"""What examples use; see test_third_party.py."""
SAYS = {
    "quickstart.py": ["sending a mail to ada@example.org"],
    "quickstart_async.py": ["sending a mail to ada@example.org"],
    "worker_module.py": [
        "mail to ada@example.org: Hello",
        ": nobody is no address",
        ": the server was busy",
        "fetched https://example.org with attempt 2",
        "indexed [0, 1, 2, 3, 4]",
    ],
    "transactional.py": [
        "rolled back:  {'ada': 100, 'bob': 0} jobs: 0",
        "committed:    {'ada': 70, 'bob': 0} jobs: 1",
        "worked:       {'ada': 70, 'bob': 30} job: succeeded with attempt 2",
    ],
    "claim_loop.py": ["page 2", "refused: the lease of job"],
    "sql_trigger.py": [
        "two inserts: ['customer:1 scheduled', 'customer:2 scheduled']",
        "warning: customer 3 gets no welcome: payload of",
        "3 customers now: ['customer:1 scheduled', 'customer:2 scheduled']",
        "one deleted: ['customer:1 cancelled', 'customer:2 scheduled']",
    ],
    "flask_app.py": [
        "sign up: 202 again: 409",
        "jobs waiting: 1",
        "after:  {'attempt': 1, 'result': {'sent_to': 'ada@example.org'}, 'state': 'succeeded'}",
    ],
    "endpoint_flask.py": [
        "health: {'status': 'ok', 'queue': 'flask'}",
        "wrong secret: 401",
        "poke: 200 succeeded: 2",
    ],
    "endpoint_fastapi.py": ["unsigned: 401", "signed: 200 succeeded: 1", "replayed: 401"],
    "endpoint_django.py": [
        "health: {'status': 'ok', 'queue': 'django'}",
        "no secret: 401",
        "poke: 200 succeeded: 1",
    ],
    "endpoint_function.py": ["scheduled: 5 more: True", "request: 200 succeeded: 2"],
    "dashboard_fastapi.py": [
        "nobody: 403",
        "ada sees why: True",
        "retry from http://elsewhere: 403 dead",
        "retry from http://app: 303 ready",
    ],
    "fastapi_app.py": ["202", "{'state': 'succeeded', 'result': {'words': 6}}", "404"],
}


def test_every_example_is_run() -> None:
    """A new example gets its line here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS) | HELPERS


@pytest.mark.parametrize("name", sorted(SAYS))
def test_example_says_what_it_promises(run: Run, name: str) -> None:
    """It ends well and without warnings, also when it is run again, and prints these lines."""
    for _ in ("first", "again"):
        printed = run("-W", "error", name)
        for words in SAYS[name]:
            assert words in printed


def test_worker_command_runs_the_module(run: Run, pgqueue_client: Client) -> None:
    """The command that the module's docstring names runs its handlers."""
    job_id = pgqueue_client.enqueue("email.send", {"to": "bob@example.org"}, queue="shop").id
    run("-m", "pgqueue", "worker", "worker_module:handlers", "-q", "shop", "--drain")
    assert str(pgqueue_client.get(job_id).state) == "succeeded"


def test_flask_example_is_served_as_its_docstring_says(run: Run) -> None:
    """It makes its tables, takes a request, and the worker runs the job."""
    run("-m", "flask", "--app", "flask_app", "set-up")
    ask = "from flask_app import app; print(app.test_client().post('/users', json={'email': 'e'}))"
    assert "202" in run("-c", ask)
    run("-m", "pgqueue", "worker", "flask_app", "-q", "mail", "--drain")
    assert "'sent_to': 'e'" in run("-c", "from flask_app import client; print(client.get(1))")
