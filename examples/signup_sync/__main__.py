"""Sets up and shows the sign-up sync: `python -m examples.signup_sync set-up`, then `demo`.

For workers or an endpoint of yours, `sign-up` has some people sign up.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from examples.third_party import third_party

# Nobody waits half a minute for the second attempts of a demo.
os.environ.setdefault("SIGNUP_BACKOFF", "0.2")

from examples.signup_sync import app

import pgqueue


def set_up() -> None:
    """Make pgqueue's schema and the application's table, as often as you like."""
    app.client.migrate()
    with psycopg.connect(app.client.dsn) as conn:
        conn.execute(Path(__file__).with_name("schema.sql").read_bytes())
    print("pgqueue's schema and the table signup are there")


def sign_up() -> int:
    """Some people sign up, one of them in a transaction that is rolled back; gives the first."""
    with psycopg.connect(app.client.dsn) as conn:
        conn.execute("delete from signup where email like %s", ("%@demo.example",))
        ada = app.sign_up(conn, "ada@demo.example", "Ada", "free")
        app.sign_up(conn, "bob@demo.example", "Bob", "team")
        app.add(conn, "cy@demo.example", "Cy")
        conn.commit()
        app.sign_up(conn, "eve@demo.example", "Eve", "free")
        conn.rollback()
    print("three have signed up, and a fourth was rolled back")
    return ada


def change(signup: int) -> None:
    """Somebody takes another plan, and then another: one push."""
    with psycopg.connect(app.client.dsn) as conn:
        for plan in ("team", "pro"):
            app.change(conn, signup, plan=plan)


def wait() -> None:
    """Wait until all is pushed."""
    while any(q.scheduled + q.ready + q.claimed for q in app.client.stats() if q.queue == "signup"):
        time.sleep(0.05)


def demo() -> None:
    """Push sign-ups to a third party that misbehaves, by a worker in this process."""
    ada = sign_up()
    worker = pgqueue.Worker(app.client, app.handlers, queues="signup", concurrency=5)
    working = threading.Thread(target=worker.run)
    with third_party() as api:
        os.environ.update(SIGNUP_API_URL=api.url, SIGNUP_API_KEY="the third party's key")
        for trouble in ("error", "busy", "reset"):
            api.next(1, trouble)
        working.start()
        wait()
        change(ada)
        wait()
        worker.stop()
        working.join()
    wrong = sum(call.trouble is not None for call in api.calls)
    print(f"{len(api.calls)} calls, of which {wrong} went wrong, and {len(api.effects)} effects:")
    for effect in sorted(api.effects, key=lambda effect: (effect.path[:4], effect.body["email"])):
        print(effect.method, effect.path, effect.body)


COMMANDS: dict[str, Callable[[], object]] = {"set-up": set_up, "sign-up": sign_up, "demo": demo}

if __name__ == "__main__":
    command = COMMANDS.get(" ".join(sys.argv[1:]))
    if command is None:
        sys.exit(f"usage: python -m examples.signup_sync {'|'.join(COMMANDS)}")
    with app.client:
        command()
