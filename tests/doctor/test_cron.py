"""pg_cron and pg_net beside a queue; on their doubles, and on real pg_cron in tests/pg_cron."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pgqueue import Client
from pgqueue.doctor import Level
from pgqueue.pg_cron import PgCron, Poke, where

from .conftest import Examine, Sql, levels

DOUBLES = Path(__file__).parents[1] / "hosted"
ENDPOINT = Poke(name="media", url="https://x.y/", queue="media")


@pytest.fixture
def cron(pgqueue_client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> PgCron:
    """The adapter of the test's queue: an endpoint is poked, and its secret is there."""
    for name in ("cron", "net"):
        sql((DOUBLES / f"{name}_double.sql").read_text("utf-8"))
    sql("grant usage on schema cron to public; grant select on all tables in schema cron to public")
    here = "select current_database()::text, current_user::text, '1.6', null"
    monkeypatch.setattr(where, "HERE", here)
    made = PgCron(pgqueue_client)
    made.install(ENDPOINT, every=timedelta(seconds=10))
    made.sync_secret("s3cr3t")
    return made


@pytest.fixture
def ran(sql: Sql) -> Callable[[str, str], None]:
    """Has pg_cron note a run of the job that pokes."""

    def ran(status: str, message: str) -> None:
        sql(
            "insert into cron.job_run_details (jobid, status, return_message, start_time) "
            "select jobid, %s, %s, now() from cron.job where jobname ~ 'poke'", status, message,
        )  # fmt: skip

    return ran


def test_without_pg_cron_nothing_is_wrong(look: Examine) -> None:
    """Unless something is to be poked."""
    assert look("pg_cron")[0].seen == "pg_cron is not here, and no endpoint is to be poked"
    assert levels(look("pg_net")) == {Level.OK}


def test_endpoint_without_the_extensions_is_a_warning(
    look: Examine, sql: Sql, role: str, as_role: Client
) -> None:
    """For a role that cannot see where else it is, a notice."""
    sql("insert into pgqueue.poke (name, url) values ('p', 'https://x.y/')")
    (found,) = look("pg_cron")
    assert found.level is Level.WARNING
    assert found.seen.startswith("1 endpoint to be poked, but pg_cron is not in database ")
    (net,) = look("pg_net")
    assert (net.level, net.advice) == (Level.WARNING, "create extension pg_net")
    sql("select pgqueue.grant_access(%s, 'worker')", role)
    assert levels(look("pg_cron", target=as_role)) == {Level.NOTICE}


def test_jobs_and_endpoints_that_do_well(
    look: Examine, cron: PgCron, ran: Callable[[str, str], None], sql: Sql
) -> None:
    """Told in a line; the first run may still be to come."""
    del cron
    (found,) = look("pg_cron")
    assert (found.level, "has not run yet" in found.seen) == (Level.NOTICE, True)
    ran("succeeded", "1 row")
    (found,) = look("pg_cron")
    assert (found.level, found.seen) == (Level.OK, "2 jobs and 1 endpoint looked at")
    sql("delete from pgqueue.poke")
    assert look("pg_cron")[0].seen == "2 jobs and 0 endpoints looked at"


def test_job_that_is_paused_fails_or_is_gone(
    look: Examine, cron: PgCron, ran: Callable[[str, str], None], sql: Sql
) -> None:
    """Each with what mends it."""
    ran("failed", "ERROR: permission denied for table job\nCONTEXT: somewhere")
    (found,) = look("pg_cron")
    assert found.level is Level.WARNING
    assert "job poke:media" in found.seen
    assert found.seen.endswith("failed: ERROR: permission denied for table job")
    assert found.advice.startswith('have the schema\'s owner run: select "pgqueue".grant_access(')
    ran("succeeded", "")
    assert levels(look("pg_cron")) == {Level.OK}
    cron.pause("poke:media")
    (found,) = look("pg_cron")
    assert (found.level, found.advice) == (Level.NOTICE, "`pgqueue cron resume poke:media`")
    sql("delete from cron.job where jobname ~ 'poke'")
    (found,) = look("pg_cron")
    assert found.level is Level.WARNING
    assert "no job of this role pokes it" in found.seen


def test_job_of_another_role_is_one(
    look: Examine,
    cron: PgCron,
    ran: Callable[[str, str], None],
    sql: Sql,
    role: str,
    as_role: Client,
) -> None:
    """A superuser sees it; who does not see it is not told that it is missing."""
    del cron
    ran("succeeded", "")
    sql("update cron.job set username = 'deploy'")
    assert levels(look("pg_cron")) == {Level.OK}
    sql("select pgqueue.grant_access(%s, 'viewer')", role)
    sql("alter table cron.job enable row level security")
    (found,) = look("pg_cron", target=as_role)
    assert found.level is Level.NOTICE
    assert f"no job that {role} may see pokes it" in found.seen
    sql("revoke usage on schema cron from public")
    (found,) = look("pg_cron", target=as_role)
    assert found.level is Level.NOTICE
    assert found.advice.startswith(f"grant usage on schema cron to {role}")
    sql("delete from pgqueue.poke")
    assert levels(look("pg_cron", target=as_role)) == {Level.OK}


def test_missing_secret_is_named(
    look: Examine,
    cron: PgCron,
    ran: Callable[[str, str], None],
    sql: Sql,
    role: str,
    as_role: Client,
) -> None:
    """To those that may see secrets; to others nothing is said of them."""
    del cron
    ran("succeeded", "")
    sql("delete from pgqueue.secret")
    (found,) = look("pg_cron")
    assert found.level is Level.WARNING
    assert "its secret 'pgqueue_endpoint' is missing" in found.seen
    assert "sync-secret pgqueue_endpoint" in found.advice
    sql("select pgqueue.grant_access(%s, 'viewer')", role)
    assert levels(look("pg_cron", target=as_role)) == {Level.OK}
    sql(f"grant select on pgqueue.secret to {role}")
    assert levels(look("pg_cron", target=as_role)) == {Level.OK}
    sql("select pgqueue.grant_access(%s, 'cron')", role)
    assert levels(look("pg_cron", target=as_role)) == {Level.WARNING}


def test_backlog_and_refusals_of_pg_net(look: Examine, cron: PgCron, sql: Sql) -> None:
    """Requests that wait, those that were refused, and that one succeeded since."""
    first = cron.run("media", force=True)
    assert levels(look("pg_net")) == {Level.OK}
    sql("update pgqueue.poke_request set requested_at = requested_at - interval '1 hour'")
    sql("update pgqueue.secret set updated_at = updated_at - interval '2 hours'")
    (found,) = look("pg_net")
    assert (found.level, found.advice.endswith("net.worker_restart()")) == (Level.WARNING, True)
    sql("delete from net.http_request_queue")
    sql("insert into net._http_response (id, status_code) values (%s, 401)", first)
    (found,) = look("pg_net")
    assert found.level is Level.WARNING
    assert "0 succeeded, 1 failed; poke:media: HTTP 401" in found.seen
    assert "sync-secret pgqueue_endpoint" in found.advice
    second = cron.run("media", force=True)
    sql("delete from net.http_request_queue")
    sql("insert into net._http_response (id, status_code) values (%s, 200)", second)
    (found,) = look("pg_net")
    assert found.level is Level.NOTICE
    assert found.seen.endswith("1 succeeded, 1 failed")


def test_requests_that_may_not_be_seen(
    look: Examine, cron: PgCron, sql: Sql, role: str, as_role: Client
) -> None:
    """The grants are named, and enough."""
    del cron
    sql("select pgqueue.grant_access(%s, 'viewer')", role)
    (found,) = look("pg_net", target=as_role)
    assert found.level is Level.NOTICE
    sql(found.advice)
    assert levels(look("pg_net", target=as_role)) == {Level.OK}
