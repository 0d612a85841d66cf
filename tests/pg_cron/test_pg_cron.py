"""The adapter on real pg_cron. Its clock has minutes: those tests wait for the next full one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from tests.hosted.cron_server import CronServer
from tests.hosted.database import Sql, until
from tests.hosted.net_double import Sender, site

from pgqueue import Client, ConfigurationError, PermissionDenied
from pgqueue.pg_cron import CronFinding, PgCron, Poke, install_script, remove_script, verify_script

TWO_MINUTES = 150
"""Seconds until pg_cron has started something twice, with some to spare."""
TEN = timedelta(seconds=10)


@pytest.fixture
def cron(cron_client: Client) -> Iterator[PgCron]:
    """The adapter of a queue in the database of pg_cron."""
    made = PgCron(cron_client)
    yield made
    made.close()


@pytest.fixture
def there(cron_server: CronServer) -> Iterator[Sql]:
    """The database of pg_cron."""
    made = Sql(cron_server.dsn())
    yield made
    made.conn.close()


def of(check: str, findings: list[CronFinding]) -> CronFinding:
    """The finding of a check."""
    return next(finding for finding in findings if finding.check == check)


def test_installing_again_changes_nothing_or_what_is_new(cron: PgCron, there: Sql) -> None:
    """One job of a name, whatever it was before; its database and user are named."""
    first = cron.install()
    assert cron.install() == first
    assert [(job.name, job.schedule, job.active) for job in first] == [
        ("history", "23 3 * * *", True),
        ("upkeep", "* * * * *", True),
    ]
    assert {(job.database, job.user) for job in first} == {("postgres", "postgres")}
    endpoint = Poke(name="media", url="https://one.example/", queue="media")
    cron.install(endpoint, every=timedelta(minutes=5))
    endpoint = Poke(name="media", url="https://two.example/", queue="media")
    jobs = cron.install(endpoint, every=TEN)
    assert [job.name for job in jobs] == ["history", "poke:media", "upkeep"]
    assert there("select url from pgqueue.poke") == [("https://two.example/",)]
    # Debian's 1.4 has no seconds, later ones do: the command says which it was.
    poke = jobs[1]
    assert (poke.schedule, poke.command) in {
        ("10 seconds", "select \"pgqueue\".poke('media')"),
        ("* * * * *", "call \"pgqueue\".run_minute('10 seconds', 'media')"),
    }


def test_paused_jobs_stay_paused_and_are_kept(cron: PgCron) -> None:
    """By name or all; an installation does not wake them."""
    cron.install()
    assert [job.name for job in cron.pause("upkeep")] == ["upkeep"]
    assert cron.pause("upkeep") == []
    cron.install(every=timedelta(minutes=5))
    assert {job.name: job.active for job in cron.jobs()} == {"history": True, "upkeep": False}
    assert "paused" in of("job upkeep", cron.verify()).seen
    assert [job.name for job in cron.pause()] == ["history"]
    assert [job.name for job in cron.resume()] == ["history", "upkeep"]
    with pytest.raises(ConfigurationError, match=r"no job 'other'.*history, upkeep"):
        cron.pause("other")


def test_removal_takes_jobs_endpoints_and_secrets(cron: PgCron, there: Sql) -> None:
    """And nothing of others; again it does nothing."""
    there("select cron.schedule('theirs', '0 0 1 1 *', 'select 1')")
    cron.install(Poke(url="https://x.y/", secret="hush"))
    cron.sync_secret("s3cr3t", "hush")
    cron.sync_secret("s3cr3t", "other")
    assert [job.name for job in cron.remove()] == ["history", "poke:default"]
    assert cron.remove() == []
    assert there("select jobname::text from cron.job") == [("theirs",)]
    assert there("select name from pgqueue.secret") == [("other",)]
    assert there("select * from pgqueue.poke") == []


def test_printed_script_runs_again_and_again(cron: PgCron, there: Sql) -> None:
    """It does what the method does."""
    endpoint = Poke(name="media", url="https://x.y/")
    by_method = cron.install(endpoint, every=TEN)
    cron.remove()
    for _ in range(2):
        there(install_script(endpoint=endpoint, every=TEN))
    assert [(j.name, j.schedule, j.command) for j in cron.jobs()] == [
        (j.name, j.schedule, j.command) for j in by_method
    ]
    for _ in range(2):
        there(remove_script())
    assert cron.jobs() == []


def test_verification_names_what_is_missing(cron: PgCron, there: Sql) -> None:
    """Jobs, secrets, pg_net; and what to do."""
    assert of("job", cron.verify()).advice == "run `pgqueue cron install`"
    cron.install(Poke(name="media", url="https://x.y/", secret="hush"))
    found = of("endpoint media", cron.verify())
    assert (found.ok, "'hush' is missing" in found.seen) == (False, True)
    assert "sync-secret hush" in found.advice
    cron.sync_secret("s3cr3t", "hush")
    assert of("endpoint media", cron.verify()).ok
    cron.client.enqueue("k")
    cron.run("media")
    assert of("pg_net", cron.verify()).ok
    there("update pgqueue.poke_request set requested_at = requested_at - interval '1 hour'")
    stuck = of("pg_net", cron.verify())
    assert (stuck.ok, stuck.advice.endswith("net.worker_restart()")) == (False, True)
    assert "k: 1 ready" in of("queue default", cron.verify()).seen
    there("drop schema net cascade")
    assert not of("pg_net", cron.verify()).ok


def test_printed_check_says_what_is_in_place(cron: PgCron, there: Sql) -> None:
    """In one query: the extension, jobs, endpoints with their secrets, and the queue."""

    def checked() -> dict[str, tuple[str, bool]]:
        return {check: (seen, ok) for check, seen, ok in there(verify_script())}

    assert list(checked()) == ["extension"]
    assert checked()["extension"][0].startswith("pg_cron 1.")
    cron.install(Poke(name="media", url="https://x.y/", secret="hush"))
    cron.pause("history")
    later = cron.client.enqueue("k", delay=timedelta(hours=1))
    assert list(checked()) == [
        "endpoint media",
        "extension",
        "job pgqueue.history@postgres",
        "job pgqueue.poke:media@postgres",
        "queue default",
    ]
    seen, ok = checked()["endpoint media"]
    assert (seen.endswith("secret 'hush': missing"), ok) == (True, False)
    cron.sync_secret("s3cr3t", "hush")
    assert checked()["endpoint media"][1]
    assert " as postgres, paused, last run never" in checked()["job pgqueue.history@postgres"][0]
    assert checked()["queue default"][0].startswith("k: 1 scheduled, the oldest of ")
    cron.client.cancel(later.id)
    assert "queue default" not in checked()


def test_rights_are_checked_first_and_named(
    cron: PgCron, cron_server: CronServer, there: Sql
) -> None:
    """With the very grants; once they are there, all is done as that role."""
    del cron
    there("drop role if exists app; create role app login")
    with Client(cron_server.dsn(user="app")) as client:
        mine = PgCron(client)
        with pytest.raises(PermissionDenied, match='grant usage on schema cron to "app"'):
            mine.install()
        there("grant usage on schema cron to app")
        there("select pgqueue.grant_access('app', 'cron')")
        assert {job.user for job in mine.install()} == {"app"}
        with pytest.raises(PermissionDenied, match=r"grant execute on function cron.alter_job"):
            mine.pause()
        there(
            "grant execute on function cron.alter_job(bigint, text, text, text, text, boolean) "
            "to app"
        )
        assert len(mine.pause()) == 2
        there("revoke usage on schema cron from app")
        assert not of("rights", mine.verify()).ok
    there("select cron.unschedule(jobid) from cron.job; drop owned by app; drop role app")


def test_queue_in_another_database_needs_one_more_right(
    cron_server: CronServer, there: Sql
) -> None:
    """A plain role may not read where pg_cron is, and so names it."""
    elsewhere = f"queue_{time.time_ns()}"
    there("drop role if exists app; create role app login; grant usage on schema cron to app")
    there(f"create database {elsewhere} owner app")
    with Client(cron_server.dsn(elsewhere, "app")) as client:
        client.migrate()
        with pytest.raises(ConfigurationError, match=r"name that .*--cron-database"):
            PgCron(client).install()
        far = PgCron(client, database="postgres")
        with pytest.raises(PermissionDenied, match=r"grant execute .* cron.schedule_in_database"):
            far.install()
        there(
            "grant execute on function "
            "cron.schedule_in_database(text, text, text, text, text, boolean) to app"
        )
        (_, upkeep) = far.install()
        assert (upkeep.name, upkeep.database, upkeep.user) == ("upkeep", elsewhere, "app")
        assert [job.name for job in far.remove()] == ["history", "upkeep"]
        far.close()
    there(f"drop database {elsewhere} with (force)")
    there("drop owned by app; drop role app")


def assert_every_ten_seconds(there: Sql) -> None:
    """Within a minute, whatever this pg_cron knows of seconds."""
    times = there("select requested_at from pgqueue.poke_request order by 1")
    gaps = [b[0] - a[0] for a, b in pairwise(times)]
    assert all(gap > timedelta(seconds=5) for gap in gaps), gaps
    assert min(gaps) < timedelta(seconds=14), gaps


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_cron_does_the_upkeep_enqueues_and_pokes(
    cron: PgCron, cron_server: CronServer, there: Sql
) -> None:
    """All that pg_cron can be asked for, in the same two minutes, and its own history of it.

    Beside it a queue in another database than that of pg_cron, whose jobs it starts there.
    """
    elsewhere = f"queue_{time.time_ns()}"
    there(f"create database {elsewhere}")
    sender = Sender(cron_server.dsn())
    with site() as served, Client(cron_server.dsn(elsewhere)) as other:
        other.migrate()
        there("select pgqueue.schedule('s', 'scheduled', every => '1 s', queue => 'q')")
        served.secrets = {"s3cr3t"}
        cron.sync_secret("stale", "hush")
        cron.install()
        cron.install(Poke(name="media", url=served.url, secret="hush"), every=TEN)
        cron.install(Poke(name="broken", url=served.url, secret="none"))
        there(
            "select cron.schedule('plain', '* * * * *', "
            "$$select pgqueue.enqueue('plain', dedupe_key => 'plain')$$)"
        )
        far = PgCron(other)
        jobs = {job.name: job for job in far.install(every=TEN)}
        assert (far.place.database, jobs["upkeep"].database) == ("postgres", elsewhere)
        assert jobs["history"].database == "postgres"
        later = other.enqueue("k", delay=timedelta(seconds=1))
        try:
            sender.start()
            until(lambda: len(served.calls) >= 1, TWO_MINUTES)
            cron.sync_secret("s3cr3t", "hush")
            until(lambda: len(served.calls) >= 3, TWO_MINUTES)
            until(lambda: {"succeeded"} <= {run.status for run in cron.history()}, TWO_MINUTES)
            until(lambda: other.get(later.id).state == "ready", TWO_MINUTES)
            until(lambda: any(f.job == "poke:broken" for f in cron.failures()), TWO_MINUTES)
            found = cron.verify()
        finally:
            sender.stop()
            far.pause()
            cron.pause()
        calls = [call.headers["Authorization"] for call in served.calls]
        assert (calls[0], calls[-1]) == ("Bearer stale", "Bearer s3cr3t")
        assert_every_ten_seconds(there)
        assert there("select distinct kind from pgqueue.job order by 1") == [
            ("plain",),
            ("scheduled",),
        ]
        assert of("job poke:media", found).ok
        assert "the secret 'none' is missing" in of("job poke:broken", found).seen
        failures = {f.job: f for f in cron.failures()}
        assert failures["poke:media"].status == 401
        assert "the secret 'hush' is stale" in failures["poke:media"].advice
        assert "the secret 'none' is missing" in failures["poke:broken"].error
        ran = there(
            "select command, status from cron.job_run_details where command ~ 'enqueue' limit 1"
        )
        assert ran == [("select pgqueue.enqueue('plain', dedupe_key => 'plain')", "succeeded")]
        far.remove()
        far.close()
    there("select cron.unschedule(jobid) from cron.job where jobname = 'plain'")
    there(f"drop database {elsewhere} with (force)")  # one that spreads its minute is at it still


def test_database_of_pg_cron_may_be_named(cron_client: Client) -> None:
    """For roles that may not read where it is."""
    cron = PgCron(cron_client, database="template1")
    with pytest.raises(ConfigurationError, match="pg_cron is not in database 'template1'"):
        cron.install()
