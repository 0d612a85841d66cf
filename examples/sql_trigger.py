"""Runs sql_trigger.sql, and shows what its triggers do."""

from pathlib import Path

import psycopg

import pgqueue

SCRIPT = Path(__file__).with_suffix(".sql")


def show(client: pgqueue.Client, what: str) -> None:
    """Print the two newest jobs of the queue."""
    jobs = client.list(queue="crm", limit=2)[::-1]
    print(what, [f"{job.ref} {job.state}" for job in jobs])


def main() -> None:
    """Insert customers, one of whom cannot be enqueued, and delete one."""
    with pgqueue.Client() as client:
        client.migrate()
        with psycopg.connect(client.dsn, autocommit=True) as conn:
            conn.add_notice_handler(lambda notice: print("warning:", notice.message_primary))
            conn.execute("set client_min_messages = warning")
            conn.execute(SCRIPT.read_bytes())

            insert = "insert into example_customer (email, note) values (%s, %s)"
            conn.execute(insert, ("ada@example.org", None))
            conn.execute(insert, ("bob@example.org", None))
            show(client, "two inserts:")

            # Over the limit of 256 KiB for a payload: the job is refused, the row is stored.
            conn.execute(insert, ("eve@example.org", "x" * 300_000))
            row = conn.execute("select count(*) from example_customer").fetchone()
            show(client, f"{row[0] if row else 0} customers now:")

            conn.execute("delete from example_customer where email = 'ada@example.org'")
            show(client, "one deleted:")


if __name__ == "__main__":
    main()
