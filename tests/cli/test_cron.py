"""`cron`, beside a stand-in for pg_cron, which needs a server of its own: see tests/hosted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from .conftest import Run

DOUBLES = Path(__file__).parents[1] / "hosted"


@pytest.fixture
def sql(pgqueue_dsn: str) -> Iterator[psycopg.Connection]:
    """The test's database, with the doubles of both extensions."""
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute((DOUBLES / "cron_double.sql").read_bytes())
        conn.execute((DOUBLES / "net_double.sql").read_bytes())
        yield conn


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extension's row in the catalog is all that cannot be made here."""
    from pgqueue.pg_cron import where  # noqa: PLC0415

    monkeypatch.setattr(
        where, "HERE", "select current_database()::text, current_user::text, '1.6', null"
    )


def test_install_pause_resume_and_remove(run: Run, sql: psycopg.Connection) -> None:
    """In words and in JSON; what changes nothing is told by the exit code."""
    done = run(
        "cron", "install", "--url", "https://x.y/", "--queue", "media", "--every", "10s", "--json"
    )
    assert [(line["name"], line["schedule"], line["active"]) for line in done.lines] == [
        ("history", "23 3 * * *", True),
        ("poke:media", "10 seconds", True),
    ]
    assert run("cron", "install").out.splitlines()[0].split() == [
        "JOB", "SCHEDULE", "DATABASE", "USER", "ACTIVE", "COMMAND",
    ]  # fmt: skip
    assert run("cron", "pause", "upkeep").out == "paused 1 job: upkeep\n"
    assert run("cron", "pause", "upkeep").code == 1
    assert run("cron", "resume", "--json").json == {"resumed": ["upkeep"]}
    assert run("cron", "pause", "nothing").code == 2
    assert run("cron", "remove").code == 2  # there is nobody to ask
    assert run("cron", "remove", "--yes").out == "removed 3 jobs: history, poke:media, upkeep\n"
    assert run("cron", "remove", "--yes").code == 1
    assert sql.execute("select * from pgqueue.poke").fetchall() == []


def test_secret_comes_from_a_variable_or_from_standard_input(
    run: Run, sql: psycopg.Connection
) -> None:
    """Never from the command line; it is not shown."""
    done = run("cron", "sync-secret", "hush", "--from-env", "HUSH", env={"HUSH": "one-two"})
    assert (done.code, done.out) == (0, "secret 'hush' is in the table\n")
    done = run("cron", "sync-secret", "--json", stdin="three\n")
    assert done.json == {"name": "pgqueue_endpoint", "store": "table"}
    assert sql.execute("select name, value from pgqueue.secret order by 1").fetchall() == [
        ("hush", "one-two"),
        ("pgqueue_endpoint", "three"),
    ]
    assert run("cron", "sync-secret", "--from-env", "NOT_SET").code == 2
    assert run("cron", "sync-secret", stdin="").code == 2


def test_run_pokes_or_does_the_upkeep(run: Run, sql: psycopg.Connection) -> None:
    """Exit 1 where nothing was ready, and the error of what is missing."""
    assert run("cron", "run").out == "the upkeep is done\n"
    assert run("cron", "run", "--force").code == 2
    run("cron", "install", "--url", "https://x.y/")
    missing = run("cron", "run", "default")
    assert (missing.code, "'pgqueue_endpoint' is missing" in missing.err) == (2, True)
    run("cron", "sync-secret", stdin="s")
    done = run("cron", "run", "default")
    assert (done.code, done.out) == (1, "no job is ready\n")
    forced = run("cron", "run", "default", "--force", "--json").json
    assert sql.execute("select id from net.http_request_queue").fetchall() == [
        (forced["request_id"],)
    ]


def test_history_and_failures_say_what_happened(run: Run, sql: psycopg.Connection) -> None:
    """Runs of pg_cron and requests of pg_net, with what to do."""
    run("cron", "install", "--url", "https://x.y/")
    assert run("cron", "history").out == "no runs\n"
    assert run("cron", "failures").out == "no failures\n"
    run("cron", "sync-secret", stdin="s")
    run("cron", "run", "default", "--force")
    sql.execute("insert into net._http_response (id, status_code, content) values (1, 401, 'no')")
    sql.execute(
        "insert into cron.job_run_details (jobid, status, return_message, start_time) "
        "select jobid, 'failed', 'ERROR: permission denied for table job', now() - interval '1 h' "
        "from cron.job where jobname ~ 'poke'"
    )
    assert run("cron", "history", "--json").json["status"] == "failed"
    assert "permission denied" in run("cron", "history").out
    told = run("cron", "failures")
    assert told.code == 1
    assert "HTTP 401 no\n    -> the secret 'pgqueue_endpoint' is stale" in told.out
    assert "grant_access" in told.out
    assert [line["status"] for line in run("cron", "failures", "--json").lines] == [401, None]
    verified = run("cron", "verify")
    assert verified.code == 1
    assert (
        "BAD requests: of the last 100: 0 succeeded, 1 failed; poke:default: HTTP 401: no"
        in verified.out
    )
    assert {line["check"]: line["ok"] for line in run("cron", "verify", "--json").lines}[
        "job poke:default"
    ] is False


def test_script_is_printed_without_a_database(run: Run) -> None:
    """For an editor that is hosted."""
    assert "cron.schedule(" in run("cron", "sql").out
    assert run("cron", "sql", "--json", "--remove").json["script"].startswith("select cron.unsch")
    script = run("cron", "sql", "--url", "https://x.y/", "--queue-database", "app").out
    assert "cron.schedule_in_database" in script
    assert "select 'extension'" in run("cron", "sql", "--verify").out


@pytest.mark.parametrize(
    "args",
    [
        ("install", "--name", "x"), ("install", "--no-secret"), ("install", "--every", "7m"),
        ("sql", "--url", "https://x.y/", "--secret", "a", "--no-secret"),
        ("sql", "--verify", "--remove"),
        ("sql", "--url", "x.y"), ("install", "--url", "https://x.y/", "--body", "[1]"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(run: Run, args: tuple[str, ...]) -> None:
    """Before anything is done."""
    assert run("cron", *args).code == 2


def test_without_a_verb_there_is_help(run: Run) -> None:
    """As with the other groups."""
    done = run("cron")
    assert (done.code, "sync-secret" in done.out) == (2, True)
