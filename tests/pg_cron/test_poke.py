"""`poke`: an endpoint is called when there is work, and only then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from tests.hosted.database import Sql, until
from tests.hosted.net_double import Sender, Site
from tests.hosted.serving import serving

from pgqueue import Client, ConfigurationError, Handlers, SecretMissing
from pgqueue.endpoint import Endpoint
from pgqueue.pg_cron import CronFinding, PgCron
from pgqueue.testing import travel

Put = Callable[..., None]
POKE = "select pgqueue.poke('media')"


@pytest.fixture
def cron(pgqueue_client: Client) -> PgCron:
    """The adapter; pg_cron itself is not needed here."""
    return PgCron(pgqueue_client)


def forced(cron: PgCron, name: str) -> int:
    """The request that a poke by hand makes."""
    request = cron.run(name, force=True)
    assert isinstance(request, int)
    return request


def test_nothing_is_called_while_nothing_is_ready(sql: Sql, put: Put) -> None:
    """Not for another queue, a paused one, a later job or a claimed one."""
    put(secret=None, queue="media")
    assert sql.one(POKE) is None
    sql("select pgqueue.enqueue('k'), pgqueue.enqueue('k', queue => 'media', delay => '1 h')")
    assert sql.one(POKE) is None
    sql("select pgqueue.enqueue('k', queue => 'media')")
    sql("select pgqueue.pause('media')")
    assert sql.one(POKE) is None
    sql("select pgqueue.resume('media')")
    assert len(sql("select * from pgqueue.claim('{media}')")) == 1
    assert sql.one(POKE) is None
    assert sql("select * from net.http_request_queue") == []
    assert sql("select * from pgqueue.poke_request") == []


def test_a_ready_job_has_its_endpoint_called(
    sql: Sql, put: Put, sender: Sender, served: Site, cron: PgCron
) -> None:
    """With the secret, the body and the time-out that were set; the request is noted."""
    put(queue="media", secret="hush", body={"limit": 10}, timeout=timedelta(seconds=12))
    cron.sync_secret("s3cr3t", "hush")
    sql("select pgqueue.enqueue('k', queue => 'media')")
    request = sql.one(POKE)
    assert sql("select request_id, poke, queue from pgqueue.poke_request") == [
        (request, "media", "media")
    ]
    assert sql.one("select timeout_milliseconds from net.http_request_queue") == 12_000
    assert sender.send() == 1
    (call,) = served.calls
    assert call.headers["Authorization"] == "Bearer s3cr3t"
    assert call.headers["Content-Type"] == "application/json"
    assert call.body == {"limit": 10}
    assert sql("select * from pgqueue.poke_failures()") == []


def test_endpoint_of_pgqueue_takes_the_call(
    sql: Sql, put: Put, sender: Sender, cron: PgCron
) -> None:
    """From a job to its end, without any process of ours that stays up: the whole way."""
    handlers = Handlers()
    handlers.register("greet", queue="media")(lambda job: f"hello {job.payload['name']}")
    secret = "correct-horse-battery-staple"
    endpoint = Endpoint(cron.client, handlers, secrets=[secret])
    with serving(endpoint.wsgi) as url:
        put(queue="media", secret="hush", url=f"{url}/run")
        cron.sync_secret(secret, "hush")
        job = cron.client.enqueue("greet", {"name": "Ada"}, queue="media")
        assert cron.run("media") is not None
        assert sender.send() == 1
    done = cron.client.get(job.id)
    assert (done.state, done.result) == ("succeeded", "hello Ada")
    assert sql("select * from pgqueue.poke_failures()") == []
    assert cron.run("media") is None


def test_secret_stands_alone_in_a_header_of_its_own(
    sql: Sql, put: Put, sender: Sender, served: Site, cron: PgCron
) -> None:
    """Only Authorization has a scheme."""
    put(secret="hush", header="X-Api-Key")
    cron.sync_secret("s3cr3t", "hush")
    assert cron.run("media") is None
    assert cron.run("media", force=True) == sql.one("select id from net.http_request_queue")
    sender.send()
    assert served.calls[0].headers["X-Api-Key"] == "s3cr3t"


def test_due_jobs_and_schedules_count_as_work(sql: Sql, put: Put) -> None:
    """Where no worker runs, the poke does the upkeep that makes them ready."""
    put(secret=None)
    for makes_work in (
        "select pgqueue.enqueue('k', delay => '1 min')",
        "select pgqueue.schedule('s', 'k', every => '1 min')",
    ):
        sql(makes_work)
        assert sql.one(POKE) is None
        travel(sql.dsn, timedelta(minutes=1, seconds=30))
        assert sql.one(POKE) is not None
        assert len(sql("select * from pgqueue.claim(count => 10, lease => '10 s')")) >= 1
        sql("delete from net.http_request_queue")


def test_job_of_a_lost_worker_counts_as_work(sql: Sql, put: Put) -> None:
    """Once its lease ran out and its backoff, which began then, is over."""
    put(secret=None)
    sql("select pgqueue.enqueue('k')")
    sql("select * from pgqueue.claim(lease => '10 s')")
    assert sql.one(POKE) is None
    travel(sql.dsn, timedelta(minutes=1))
    assert sql.one(POKE) is not None


def test_requests_do_not_pile_up_while_nobody_sends(sql: Sql, put: Put, sender: Sender) -> None:
    """One that still waits does what a second one would."""
    put(secret=None)
    sql("select pgqueue.enqueue('k')")
    assert sql.one(POKE) is not None
    assert [sql.one(POKE) for _ in range(3)] == [None] * 3
    sender.send()
    assert sql.one(POKE) is not None


def test_requests_go_with_a_rollback(sql: Sql, put: Put) -> None:
    """Nothing is sent or noted for what was not committed."""
    put(secret=None)
    sql("select pgqueue.enqueue('k')")
    sql("begin")
    sql(POKE)
    sql("rollback")
    assert sql("select id from net.http_request_queue") == []
    assert sql("select * from pgqueue.poke_request") == []


def test_missing_secret_is_named_before_any_call(sql: Sql, put: Put, cron: PgCron) -> None:
    """Also while there is no work: not at night, with the first job."""
    put(secret="hush")
    with pytest.raises(SecretMissing, match=r"the secret 'hush' is missing.*sync-secret hush") as e:
        cron.run("media")
    assert e.value.name == "hush"
    sql("insert into pgqueue.secret (name, value) values ('hush', E'a\\nb')")
    with pytest.raises(ConfigurationError, match="'hush' is no header") as bad:
        cron.run("media", force=True)
    assert "\n" not in str(bad.value)
    assert sql("select id from net.http_request_queue") == []


def test_unknown_endpoint_and_missing_pg_net_say_what_to_do(
    sql: Sql, put: Put, cron: PgCron
) -> None:
    """Each with the command that mends it."""
    with pytest.raises(ConfigurationError, match=r"no endpoint named 'media'.*cron install"):
        cron.run("media")
    put(secret=None)
    sql("drop schema net cascade")
    with pytest.raises(ConfigurationError, match="create extension pg_net"):
        cron.run("media")
    with pytest.raises(psycopg.Error, match="create extension pg_net"):
        sql("select * from pgqueue.poke_failures()")


def test_failures_are_told_with_what_mends_them(
    sql: Sql, put: Put, sender: Sender, served: Site, pgqueue_client: Client
) -> None:
    """A stale secret by its name; time-outs, unreachable sites and want of memory as well."""
    from pgqueue.pg_cron.verify import failed_requests  # noqa: PLC0415

    cron = PgCron(pgqueue_client)
    served.secrets = {"new"}
    put(secret="hush")
    cron.sync_secret("old", "hush")
    stale = forced(cron, "media")
    sender.send()
    put("gone", secret=None, url="http://127.0.0.1:9/")
    gone = forced(cron, "gone")
    put("slow", secret=None, timeout=timedelta(milliseconds=100))
    served.slow = True
    slow = forced(cron, "slow")
    sender.send()
    full = forced(cron, "media")
    sql("delete from net.http_request_queue")
    sql("insert into net._http_response (id, error_msg) values (%s, 'Out of memory')", full)
    found = {f.request_id: f for f in failed_requests(pgqueue_client, 100)}
    assert set(found) == {stale, gone, slow, full}
    assert found[stale].status == 401
    assert found[stale].advice.startswith("the secret 'hush' is stale")
    assert "pgqueue cron sync-secret hush" in found[stale].advice
    assert (found[gone].status, found[gone].error) == (None, "Couldn't connect to server")
    assert "--url" in found[gone].advice
    assert "--timeout" in found[slow].advice
    assert "pg_net.batch_size" in found[full].advice
    # Rotated: the endpoint takes both for a while, and nothing is scheduled anew.
    served.slow = False
    served.secrets = {"new", "old"}
    cron.sync_secret("new", "hush")
    cron.run("media", force=True)
    sender.send()
    assert served.calls[-1].headers["Authorization"] == "Bearer new"
    assert len(failed_requests(pgqueue_client, 100)) == 4
    assert len(failed_requests(pgqueue_client, 1)) == 0


def test_request_that_pg_net_lost_is_told(
    sql: Sql, put: Put, sender: Sender, pgqueue_client: Client
) -> None:
    """Its tables are empty after a crash: what neither waits nor was answered has failed."""
    from pgqueue.pg_cron.verify import failed_requests  # noqa: PLC0415

    cron = PgCron(pgqueue_client)
    put(secret=None)
    answered = forced(cron, "media")
    sender.send()
    lost = forced(cron, "media")
    sql("delete from net.http_request_queue")
    waits = forced(cron, "media")
    travel(sql.dsn, timedelta(seconds=80))
    assert failed_requests(pgqueue_client, 100) == []  # it may be under way
    travel(sql.dsn, timedelta(seconds=20))
    (found,) = failed_requests(pgqueue_client, 100)
    assert found.request_id == lost
    assert found.request_id not in {answered, waits}
    assert (found.status, "pg_net lost it" in found.error) == (None, True)
    assert "no job is lost" in found.advice
    # Nor are answers missed that pg_net has forgotten.
    sql("set pg_net.ttl = '1 minute'")
    assert sql("select * from pgqueue.poke_failures()") == []


def test_verification_is_content_once_failures_are_mended(
    sql: Sql, put: Put, sender: Sender, served: Site, cron: PgCron
) -> None:
    """By a success since then or, where a secret was refused, by another secret."""
    from pgqueue.pg_cron.verify import _net  # noqa: PLC0415

    def requests() -> CronFinding:
        return next(finding for finding in _net(cron.client) if finding.check == "requests")

    put(secret="hush")
    cron.sync_secret("old", "hush")
    served.secrets = {"new"}
    forced(cron, "media")
    sender.send()
    assert not requests().ok
    assert "poke:media: HTTP 401" in requests().seen
    cron.sync_secret("new", "hush")
    assert (requests().ok, requests().advice) == (True, "`pgqueue cron failures`")
    cron.sync_secret("newer", "hush")
    forced(cron, "media")
    sender.send()
    assert not requests().ok
    served.secrets = set()
    forced(cron, "media")
    sender.send()
    assert requests().ok
    put(secret="hush", url="http://127.0.0.1:9/")
    forced(cron, "media")
    sender.send()
    cron.sync_secret("again", "hush")  # that does not help here
    assert not requests().ok
    sql("delete from pgqueue.poke")
    assert requests().ok


def test_upkeep_forgets_requests_after_a_day(sql: Sql, put: Put) -> None:
    """The table stays small by itself."""
    put(secret=None)
    sql("select pgqueue.poke('media', true)")
    travel(sql.dsn, timedelta(hours=23))
    sql("select pgqueue.maintain()")
    assert sql.one("select count(*) from pgqueue.poke_request") == 1
    travel(sql.dsn, timedelta(hours=2))
    sql("select pgqueue.maintain()")
    assert sql.one("select count(*) from pgqueue.poke_request") == 0


def test_ready_jobs_are_found_by_one_probe(sql: Sql, put: Put) -> None:
    """Also among many, and before any statistics."""
    put(secret=None)
    sql(
        "select count(*) from pgqueue.enqueue_many("
        "(select jsonb_agg(jsonb_build_object('kind', 'k')) from generate_series(1, 20000)))"
    )
    sql("select pg_stat_force_next_flush()")
    read = "select idx_tup_read from pg_stat_user_indexes where indexrelname = 'job_ready'"
    before = sql.one(read)
    assert sql.one("select pgqueue._has_ready('default')") is True
    sql("select pg_stat_force_next_flush()")
    assert sql.one(read) - before <= 10


def test_run_minute_goes_on_after_an_error_and_ends_with_it(sql: Sql, put: Put) -> None:
    """Its pace may be longer than what is left of the minute."""
    with pytest.raises(psycopg.Error, match="no endpoint named 'media'"):
        sql("call pgqueue.run_minute('61 s', 'media')")
    put(secret=None)
    sql("select pgqueue.enqueue('k')")
    sql("call pgqueue.run_minute('61 s', 'media')")
    assert len(sql("select * from net.http_request_queue")) == 1
    sql("call pgqueue.run_minute('61 s')")
    with pytest.raises(psycopg.Error, match="use a second or more"):
        sql("call pgqueue.run_minute('10 ms')")


def test_run_minute_ends_when_its_job_is_paused(sql: Sql, put: Put) -> None:
    """Where it can see that: it does not poke on until the minute is over."""
    sql.double("cron")
    put(secret=None)
    call = "call pgqueue.run_minute('1 s', 'media')"
    sql("select cron.schedule('pgqueue.poke:media@db', '* * * * *', %s)", call)
    second = int(sql.one("select date_part('second', pgqueue.clock())"))
    travel(sql.dsn, timedelta(seconds=65 - second))  # to the fifth of a minute

    def run() -> None:
        with psycopg.connect(sql.dsn, autocommit=True) as conn:
            conn.execute(call.encode())

    running = threading.Thread(target=run)
    running.start()
    active = "select pid from pg_stat_activity where query = %s and state = 'active'"
    until(lambda: sql(active, call))
    sql("select cron.alter_job(jobid, active := false) from cron.job")
    running.join(10)
    assert not running.is_alive()
