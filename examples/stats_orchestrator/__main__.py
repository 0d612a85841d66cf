"""Shows it on the server that PGQUEUE_DSN names, or an embedded one: a poke, and then a worker."""

import threading
from datetime import timedelta

import psycopg
from examples.stats_orchestrator.app import (
    Options,
    app,
    client,
    endpoint,
    handlers,
    refresh,
    watch,
)
from examples.third_party import third_party

import pgqueue

RUN = "/api/jobs/run"
GAMES = [{"id": 1, "points": 3}, {"id": 2, "points": 7}, {"id": 3}]


def main() -> None:
    """Refresh the statistics of two coaches from a third party that is in a bad mood."""
    with psycopg.connect(client.dsn) as conn:
        sql = "insert into coach values (7, 'Ada'), (8, 'Bob') on conflict do nothing"
        conn.execute(sql)
    print("poke without the secret:", app.test_client().post(RUN).status_code)
    with third_party() as source:
        app.config["SOURCE"] = source.url
        source.put("/coaches/7/games", GAMES)
        source.put("/coaches/8/games", [])
        tried = refresh.enqueue(client, Options(coach_id=7, dry_run=True))
        endpoint.process()  # what POST does, with the secret
        print("dry run:", client.get(tried.id).result)
        source.next(1, "busy", path="/coaches/7", retry_after=1)
        source.next(1, "error", path="/coaches/8")
        # Where a process may stay up, no poke is needed: a worker fires schedules, too.
        worker = pgqueue.Worker(client, handlers, observers=[watch])
        working = threading.Thread(target=worker.run)
        working.start()
        client.wait(client.schedules.run_now("stats.nightly"), timeout=timedelta(seconds=20))
        for queued in client.list(kind="stats.refresh", limit=2)[::-1]:
            done = client.wait(queued.id, timeout=timedelta(seconds=20))
            print(done.dedupe_key, [attempt.outcome for attempt in done.history], "->", done.result)
        worker.stop()
        working.join()


if __name__ == "__main__":
    with client, endpoint:
        main()
