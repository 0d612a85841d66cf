"""Sets up and shows the reminders: `python -m examples.reminders set-up`, `demo` or `uninstall`."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
from examples.reminders import app
from examples.third_party import third_party

import pgqueue

HERE = Path(__file__).parent
INSERT = """
insert into sync_app.sync (owner, recipients, status)
values ('ada', %s, 'running') returning id
"""
CONFIRM = "update sync_app.sync set confirmed_at = now() where id = %s"
DELETE = "delete from sync_app.sync where id = %s"
STATUS = "select status from sync_app.sync where id = %s"
SECONDS = "update reminders.setting set demo = true, demo_delay = '1 second'"
DEMO_OVER = "update reminders.setting set demo = false, demo_delay = default"
HOUR = timedelta(hours=1)


def run(*names: str) -> None:
    """Run scripts beside this file, each in a transaction."""
    for name in names:
        with psycopg.connect(app.client.dsn) as conn:
            conn.execute((HERE / name).read_bytes())


def set_up() -> None:
    """Make pgqueue's schema, the application's table and the reminders, as often as you like."""
    app.client.migrate()
    run("schema.sql", "reminders.sql")
    print("set up")


def uninstall() -> None:
    """Take reminders and pgqueue away; the application's table stays as it is."""
    run("uninstall.sql")
    print("uninstalled")


@contextmanager
def working() -> Iterator[None]:
    """A worker in this process; it does the upkeep, too."""
    worker = pgqueue.Worker(app.client, app.handlers)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def ended(sync_id: int, kind: str) -> str:
    """The state in which the newest job of a kind ends, for a sync."""
    (job,) = app.client.list(ref=f"sync:{sync_id}", kind=kind, limit=1)
    return str(app.client.wait(job.id, timeout=timedelta(seconds=20)).state)


def play(conn: psycopg.Connection) -> int:
    """The application writes its table, and knows nothing of reminders."""

    def start(*recipients: str) -> int:
        ((sync_id,),) = conn.execute(INSERT, (list(recipients),)).fetchall()
        return int(sync_id)

    (job,) = app.client.list(ref=f"sync:{start('ada@example.org')}")
    print(f"reminder due in {(job.run_at - job.enqueued_at) / HOUR:.0f} hours; in demo mode:")
    conn.execute(SECONDS)
    forgotten, confirmed, deleted = start("bob@example.org", "eve@example.org"), start(), start()
    conn.execute(CONFIRM, (confirmed,))
    conn.execute(DELETE, (deleted,))
    print("sync deleted:  ", ended(deleted, "reminder.due"))
    print("sync confirmed:", ended(confirmed, "reminder.due"))
    print("sync forgotten:", ended(forgotten, "reminder.due"), end=", ")
    return forgotten


def demo() -> None:
    """What becomes of four syncs, with delays of seconds."""
    with third_party() as api, psycopg.connect(app.client.dsn, autocommit=True) as conn, working():
        app.MESSAGES_URL = f"{api.url}/messages"
        try:
            forgotten = play(conn)
        finally:
            conn.execute(DEMO_OVER)
        ended(forgotten, "message.send")
        print("messages to", sorted(call.body["to"] for call in api.effects), end=", ")
        print("follow-up", ended(forgotten, "reminder.follow_up"), end=": ")
        print(*conn.execute(STATUS, (forgotten,)).fetchone() or ())


if __name__ == "__main__":
    commands = {"set-up": set_up, "demo": demo, "uninstall": uninstall}
    if sys.argv[1:] not in [[name] for name in commands]:
        sys.exit(f"usage: python -m examples.reminders {'|'.join(commands)}")
    with app.client:
        commands[sys.argv[1]]()
