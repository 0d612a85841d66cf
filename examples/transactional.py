"""Enqueue and ack inside the application's own transactions: effects that happen exactly once.

Two things are shown. A job that is enqueued in a transaction exists if that transaction commits,
and only then. And a handler whose writes and ack share a transaction leaves either both or nothing,
so that a crash in the middle does not apply the writes twice.
"""

from datetime import timedelta

import psycopg

import pgqueue

client = pgqueue.Client()
handlers = pgqueue.Handlers()

TABLES = """
    drop table if exists example_account;
    create table example_account (owner text primary key, balance integer not null);
    insert into example_account values ('ada', 100), ('bob', 0);
"""


def order_transfer(amount: int, *, change_mind: bool = False) -> None:
    """Take the money from Ada and enqueue the job that gives it to Bob: both, or neither."""
    with psycopg.connect(client.dsn) as conn:
        conn.execute(
            "update example_account set balance = balance - %s where owner = 'ada'", (amount,)
        )
        transfer.enqueue(client, {"to": "bob", "amount": amount}, conn=conn)
        if change_mind:
            conn.rollback()


# No wait between attempts, so that the example is quick.
@handlers.register("money.transfer", queue="bank", retry=pgqueue.Delays([timedelta(0)]))
def transfer(job: pgqueue.Job) -> None:
    """Give the money and ack the job in one transaction; the first attempt crashes in it."""
    with psycopg.connect(client.dsn) as conn:
        conn.execute(
            "update example_account set balance = balance + %(amount)s where owner = %(to)s",
            job.payload,
        )
        job.ack(conn=conn)  # the last statement, so that the row is locked for a moment only
        if job.attempt == 1:
            raise RuntimeError("the power is cut")  # rolls back the update and the ack


def balances() -> dict[str, int]:
    """Tell what everybody has."""
    with psycopg.connect(client.dsn) as conn:
        return dict(conn.execute("select owner, balance from example_account order by 1"))


def main() -> None:
    """Order two transfers, one of which is rolled back, and work until no job is ready."""
    client.migrate()
    with psycopg.connect(client.dsn) as conn:
        conn.execute(TABLES)

    order_transfer(70, change_mind=True)
    print("rolled back: ", balances(), "jobs:", len(client.list(queue="bank", state="ready")))

    order_transfer(30)
    print("committed:   ", balances(), "jobs:", len(client.list(queue="bank", state="ready")))

    pgqueue.Worker(client, handlers, queues="bank").run(until_idle=True)
    (job,) = client.list(queue="bank", limit=1)
    print("worked:      ", balances(), f"job: {job.state} with attempt {job.attempt}")


if __name__ == "__main__":
    with client:
        main()
