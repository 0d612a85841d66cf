"""Jobs that wait, run for too long, or die."""

from __future__ import annotations

from datetime import timedelta

from pgqueue import Client, NewJob
from pgqueue.doctor import Level, Limits, examine
from pgqueue.testing import travel

from .conftest import Examine, Sql, levels, until

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def later(client: Client, by: timedelta) -> None:
    """Moves the database's clock, with the partitions that are then due."""
    travel(client, by)


def test_due_job_that_nobody_promotes_is_critical(look: Examine, pgqueue_client: Client) -> None:
    """One round of maintenance mends it."""
    pgqueue_client.enqueue("a", delay=MINUTE)
    assert levels(look("upkeep")) == {Level.OK}
    later(pgqueue_client, HOUR)
    (found,) = look("upkeep")
    assert (found.level, found.seen) == (
        Level.CRITICAL,
        "1 job is due and not made ready, the first for 59m",
    )
    pgqueue_client.maintain()
    assert levels(look("upkeep")) == {Level.OK}


def test_expired_claim_that_nobody_ends_is_critical(look: Examine, pgqueue_client: Client) -> None:
    """It is found between the marks of its lane."""
    pgqueue_client.enqueue_many([("a", {})] * 300)
    pgqueue_client.maintain()
    pgqueue_client.claim(limit=2, lease=MINUTE)
    assert levels(look("upkeep")) == {Level.OK}
    later(pgqueue_client, HOUR)
    (found,) = look("upkeep")
    assert found.level is Level.CRITICAL
    assert found.seen == "2 claims expired and not ended, the first 59m ago"
    pgqueue_client.maintain()
    assert levels(look("upkeep")) == {Level.OK}


def test_upkeep_that_has_stopped_is_a_warning(
    look: Examine, pgqueue_client: Client, sql: Sql, role: str, as_role: Client
) -> None:
    """While there are jobs. A viewer may see it as well."""
    pgqueue_client.maintain()
    later(pgqueue_client, HOUR)
    sql("select setval('pgqueue.promote_floor', (extract(epoch from now()) * 1e6)::bigint)")
    assert levels(look("upkeep")) == {Level.OK}
    pgqueue_client.enqueue("a")
    (found,) = look("upkeep")
    assert (found.level, found.seen) == (
        Level.WARNING,
        "upkeep was last done 59m ago, and there are jobs",
    )
    sql("select pgqueue.grant_access(%s, 'viewer')", role)
    assert "last done 59m ago" in look("upkeep", target=as_role)[0].seen


def test_long_run_is_noticed(look: Examine, pgqueue_client: Client) -> None:
    """With the job's id and its worker."""
    job = pgqueue_client.enqueue("a")
    pgqueue_client.claim(worker="w-1", lease=3 * HOUR)
    assert levels(look("leases")) == {Level.OK}
    later(pgqueue_client, 2 * HOUR)
    (found,) = look("leases")
    assert found.level is Level.NOTICE
    assert found.seen == f"job {job.id} (a) has run for 2h, in worker w-1"


def test_kind_that_nobody_runs_is_critical(look: Examine, pgqueue_client: Client, sql: Sql) -> None:
    """No worker on the queue, one that runs other kinds, and one that does run it."""
    pgqueue_client.enqueue_many([("a", {})] * 3 + [("b", {})])
    assert levels(look("waiting")) == {Level.OK}
    later(pgqueue_client, HOUR)
    a, b = sorted(look("waiting"), key=lambda f: f.seen, reverse=True)
    assert a.level is b.level is Level.CRITICAL
    assert a.seen.startswith(
        "3 jobs of kind a in queue default wait, the oldest for 60m; no worker"
    )
    assert b.seen.startswith(
        "1 job of kind b in queue default waits, the oldest for 60m; no worker"
    )
    sql("select pgqueue.sleep('{default}', 'w-1', '1 hour', '{b}')")
    a, b = sorted(look("waiting"), key=lambda f: f.seen, reverse=True)
    assert (a.level, b.level) == (Level.CRITICAL, Level.WARNING)
    assert "1 worker seen on this queue, none of which runs it" in a.seen
    assert "1 worker seen that run it" in b.seen
    pgqueue_client.claim(limit=2, kinds=["a"], worker="w-2")
    assert levels(look("waiting")) == {Level.WARNING}


def test_paused_queue_with_waiting_jobs(look: Examine, pgqueue_client: Client) -> None:
    """A notice at first, a warning when it seems forgotten; its jobs wait nowhere else."""
    pgqueue_client.pause("mail", reason="provider")
    assert levels(look("paused")) == {Level.OK}
    pgqueue_client.enqueue("a", queue="mail")
    later(pgqueue_client, 3 * HOUR)
    (found,) = look("paused")
    assert found.level is Level.NOTICE
    assert found.seen == (
        "queue mail has been paused for 3h (provider); its oldest job has waited for 3h"
    )
    assert levels(look("waiting")) == {Level.OK}
    assert levels(look("paused", limits=Limits(paused=HOUR))) == {Level.WARNING}
    pgqueue_client.resume("mail")
    assert levels(look("paused")) == {Level.OK}


def test_pause_of_everything_is_noticed(look: Examine, pgqueue_client: Client) -> None:
    """With how to end it; jobs wait because of it, and for nothing else."""
    pgqueue_client.enqueue("a", queue="mail")
    pgqueue_client.pause("mail")
    pgqueue_client.operations.pause(reason="incident")
    later(pgqueue_client, 3 * HOUR)
    _, found = look("paused")
    assert found.seen == (
        "everything has been paused for 3h (incident); its oldest job has waited for 3h"
    )
    assert found.advice == "pgqueue resume --all"
    assert levels(look("waiting")) == {Level.OK}


def test_workers_that_are_seen(look: Examine, pgqueue_client: Client, sql: Sql) -> None:
    """Those that sleep and those that hold claims, each once."""
    pgqueue_client.enqueue_many([("a", {})] * 3)
    assert look("workers")[0].seen.startswith("0 idle workers seen, and 0 with")
    sql("select pgqueue.sleep('{default,mail}', 'w-1', '1 hour')")
    pgqueue_client.claim(worker="w-1")
    pgqueue_client.claim(worker="w-2")
    assert look("workers")[0].seen.startswith("1 idle worker seen, and 1 with")


def test_jobs_on_their_last_attempt_are_noticed(look: Examine, pgqueue_client: Client) -> None:
    """Those that wait for it, and those that are in it; not those that have but one."""
    pgqueue_client.enqueue("a", max_attempts=2)
    pgqueue_client.enqueue("once", max_attempts=1)
    jobs = pgqueue_client.claim(limit=2)
    assert levels(look("last-attempts")) == {Level.OK}
    pgqueue_client.fail([job for job in jobs if job.kind == "a"], retry_in=MINUTE)
    (found,) = look("last-attempts")
    assert (found.level, found.seen) == (
        Level.NOTICE,
        "1 job of kind a is at or before the last attempt",
    )
    later(pgqueue_client, 2 * MINUTE)
    pgqueue_client.maintain()
    assert len(pgqueue_client.claim(kinds=["a"])) == 1
    assert look("last-attempts") == [found]


def test_dead_jobs_of_the_last_hour_are_counted_by_kind(
    look: Examine, pgqueue_client: Client
) -> None:
    """Few are a notice, many a warning, old ones nothing."""
    assert levels(look("died")) == {Level.OK}
    many = [NewJob("a", max_attempts=1)] * 12
    pgqueue_client.enqueue_many([*many, NewJob("b", max_attempts=1)])
    pgqueue_client.fail(pgqueue_client.claim(limit=13))
    found = {finding.seen: finding.level for finding in look("died")}
    assert found == {
        "12 jobs of kind a died within the last hour": Level.WARNING,
        "1 job of kind b died within the last hour": Level.NOTICE,
    }
    later(pgqueue_client, 2 * HOUR)
    assert levels(look("died")) == {Level.OK}


READ = """
select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint, sum(seq_scan)::bigint
from pg_stat_all_tables where relid = 'pgqueue.job'::regclass
"""


def test_cost_does_not_grow_with_the_number_of_jobs(pgqueue_client: Client, sql: Sql) -> None:
    """Rows of the table that an examination reads, with fifteen times as many jobs in it."""

    def read() -> int:
        pgqueue_client.close()
        until(lambda: sql("select count(*) from pg_stat_activity where datname = current_database()"
                          " and backend_type = 'client backend'")[0][0] == 1)  # fmt: skip
        before, scans = sql(READ)[0]
        examine(pgqueue_client)
        until(lambda: sql(READ)[0][0] > before)
        after, scans_after = sql(READ)[0]
        assert scans_after == scans
        return int(after - before)

    def fill(count: int) -> None:
        for queue in ("mail", "reports"):
            pgqueue_client.enqueue_many([("a", {})] * count, queue=queue)
            pgqueue_client.enqueue_many(
                [NewJob("a", queue=queue, delay=HOUR) for _ in range(count)]
            )
        pgqueue_client.claim("mail", limit=300)
        pgqueue_client.maintain()

    fill(1_000)
    few = read()
    fill(14_000)
    assert read() <= 2 * few + 2_000
    assert few <= 6_000
