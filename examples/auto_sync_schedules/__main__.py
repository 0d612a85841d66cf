"""Sets up and shows auto-sync: `python -m examples.auto_sync_schedules set-up`, or `demo`."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import time
from pathlib import Path
from time import monotonic, sleep

import attrs
import psycopg
from examples.auto_sync_schedules import app
from examples.third_party import ThirdParty, third_party

import pgqueue

NIGHTLY = app.Settings(
    frequency_minutes=15, time_window=(time(22), time(6)), timezone="America/New_York"
)
HERE = Path(__file__).parent
EVERY_SECOND = """
update pgqueue.schedule set every = '1 second', window_start = null, window_end = null
"""
PATIENCE = 15.0  # seconds


@contextmanager
def working() -> Iterator[None]:
    """A worker in this process; it fires schedules, too."""
    worker = pgqueue.Worker(app.client, app.handlers)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def until(condition: Callable[[], object]) -> None:
    """Wait for what the worker does in its own time."""
    deadline = monotonic() + PATIENCE
    while not condition():
        if monotonic() > deadline:
            sys.exit("nothing comes: does the worker run?")
        sleep(0.05)


def set_up() -> None:
    """Make pgqueue's schema, the tables and the roles, as often as you like."""
    app.client.migrate()
    with psycopg.connect(app.client.dsn) as conn:
        conn.execute((HERE / "schema.sql").read_bytes())
    print("set up")


def demo() -> None:
    """What a settings page would call, and what the third party gets."""
    with third_party() as api, working():
        app.API_URL = api.url
        numbers = {user: app.connect(user, "calendar", f"key of {user}") for user in ("ada", "bob")}
        for user, number in numbers.items():
            app.save(user, number, NIGHTLY)
            (state,) = app.schedules(user)
            print(f"{user} sees one, {state.schedule.describe()}; next: {state.next_run_at}")
        print("bob's view of ada's history:", app.history("bob", numbers["ada"]))
        run_every_second(api, numbers["ada"])
        for user, number in numbers.items():
            app.disconnect(user, number)


def run_every_second(api: ThirdParty, integration: int) -> None:
    """The page offers minutes. In SQL it may be seconds; any change computes the next run."""

    def keys() -> list[str]:
        sent = (call.headers["Authorization"].removeprefix("Bearer ") for call in api.effects)
        return [key for key in sent if key != "key of bob"]  # it may be night in New York

    with app.as_user("ada") as conn:
        conn.execute(EVERY_SECOND)
    until(lambda: len(keys()) > 1)
    print("called with", keys()[:2])
    app.connect("ada", "calendar", "another key")
    until(lambda: "another key" in keys())
    print("and, the schedule untouched, with", keys()[-1])
    app.save("ada", integration, attrs.evolve(NIGHTLY, enabled=False))
    slots = [run.slot for run in app.history("ada", integration) if run.outcome == "enqueued"]
    print("each slot once:", len(slots) == len(set(slots)))


if __name__ == "__main__":
    commands = {"set-up": set_up, "demo": demo}
    if sys.argv[1:] not in [[name] for name in commands]:
        sys.exit(f"usage: python -m examples.auto_sync_schedules {'|'.join(commands)}")
    with app.client:
        commands[sys.argv[1]]()
