"""What each page shows, over HTTP."""

from __future__ import annotations

import html
from datetime import timedelta

import psycopg
import pytest
from markupsafe import escape
from psycopg import conninfo
from tests.dashboard import scene
from tests.dashboard.conftest import VIEWER, Browser, Make

from pgqueue import Client, Schedule
from pgqueue.dashboard import Dashboard, User, hide_payload
from pgqueue.models import JobDetail

PAGES = (
    "/", "/?span=day", "/?span=week", "/jobs", "/jobs?state=dead", "/jobs?state=dead&since=1h",
    "/queues", "/queues/mail", "/queues/newsletter", "/queues/none", "/schedules",
    "/schedules/invoices.close", "/schedule-new", "/schedule-edit/invoices.close", "/workers",
    "/audit", "/doctor", "/jobs/bulk?action=cancel", "/jobs/{nasty}", "/jobs/{dead}",
    "/jobs/{running}", "/jobs/{succeeded}", "/jobs/{scheduled}",
)  # fmt: skip


def test_every_page_shows_markup_in_data_as_text(client: Client, make: Make) -> None:
    """No column of any table becomes markup, and each page is whole."""
    made = scene.build(client)
    browser = make(title=scene.BAD)
    numbers = {
        "nasty": made.nasty, "dead": made.dead, "running": made.running,
        "succeeded": made.succeeded, "scheduled": made.scheduled,
    }  # fmt: skip
    seen = ""
    for page in PAGES:
        answer = browser.get(page.format(**numbers))
        assert answer.status_code == 200, page
        assert answer.text.rstrip().endswith("</html>"), page
        assert "<img" not in answer.text, page
        assert answer.text.count("<script") == 1, page
        seen += answer.text
    # Each of: tag, ref, dedupe key, payload, error, worker, pause reason, audit, schedule.
    assert seen.count(str(escape(scene.BAD))) > 30


def test_overview_says_what_is_wrong_and_what_mends_it(client: Client, browser: Browser) -> None:
    """Paused queues, deaths by kind and error, and that nobody works, each with a way out."""
    scene.build(client)
    with psycopg.connect(client.dsn) as conn:
        conn.execute("delete from pgqueue.worker")
    page = browser.get("/").text
    assert "No worker is alive" in page
    assert "9 email.send jobs died within the last hour" in page
    assert "Of SMTPServerDisconnected" in page
    assert "Queue newsletter is paused" in page
    assert "1,204 jobs wait in it" in page
    assert "error_class=SMTPServerDisconnected" in page
    assert "Queue billing is paused" not in page  # nothing waits in it


def test_overview_of_an_empty_queue_is_calm(browser: Browser) -> None:
    """Nothing is asserted to be wrong where nothing is known."""
    page = browser.get("/").text
    assert "All is well" in page
    assert "No queue has been used yet" in page
    assert "No figures yet" in page


def test_viewer_gets_no_buttons(client: Client, make: Make) -> None:
    """What would be refused is not offered."""
    made = scene.build(client)
    browser = make(VIEWER)
    for path in ("/", "/queues", "/queues/mail", "/schedules", f"/jobs/{made.dead}", "/jobs"):
        page = browser.get(path).text
        for label in ("Retry", "Resume", "Pause", "Run now", "Cancel", "Delete"):
            assert f">{label}</button>" not in page, path
            assert f">{label} all</a>" not in page, path


def test_jobs_go_on_page_by_page(client: Client, browser: Browser) -> None:
    """Each job stands on one page."""
    client.enqueue_many([("k", {"n": n}) for n in range(120)])
    path, seen, pages = "/jobs?state=ready", [], 0
    while path:
        page = browser.get(path).text
        seen += [part.split('"')[0] for part in page.split('<tr data-href="/jobs/')[1:]]
        pages += 1
        older = page.split('href="', 1)[0] if 'rel="next"' not in page else page
        path = ""
        if 'rel="next"' in older:
            path = html.unescape(page.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0])
    assert pages == 3
    assert len(seen) == len(set(seen)) == 120


@pytest.mark.parametrize(
    "query,fits",
    [
        ("state=dead", True),
        ("state=succeeded", False),
        ("queue=mail-out&kind=email.send", True),
        ("q=email.send", True),
        ("ref=user:0", True),
        ("error_class=SMTPServerDisconnected&state=dead", True),
        ("error=unexpectedly&state=dead", True),
        ("error=expectedly not&state=dead", False),
        ('payload={"to": "user0@example.org"}&state=dead', True),
        ('payload={"to": "user99@example.org"}&state=dead', False),
        ("state=dead&since=1h", True),
        ("state=dead&to=2020-01-01 00:00", False),
        ("worker=web-1:4127&state=dead", True),
        ("tag=eu", False),
    ],
)
def test_jobs_are_found_by(client: Client, browser: Browser, query: str, fits: bool) -> None:  # noqa: FBT001
    """Each filter finds the dead job, or does not."""
    dead = scene._dead(client)
    page = browser.get(f"/jobs?{query}").text
    assert (f'data-href="/jobs/{dead}"' in page) is fits


@pytest.mark.parametrize(
    "query",
    ["state=gone", "payload={", "since=ever", "from=noon", "ids=x", "after=%00", "queue=a b"],
)
def test_filter_that_cannot_be_says_why(browser: Browser, query: str) -> None:
    """The page is there, with what to write instead."""
    answer = browser.get(f"/jobs?{query}")
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text


def test_number_in_the_search_leads_to_the_job(client: Client, browser: Browser) -> None:
    """With or without a #."""
    number = client.enqueue("k").id
    for text in (f"{number}", f"%23{number}"):
        answer = browser.get(f"/jobs?q={text}")
        assert answer.headers["location"] == f"/jobs/{number}"


def test_job_shows_attempts_commands_and_why(client: Client, browser: Browser) -> None:
    """What an operator needs to decide is on one page."""
    made = scene.build(client)
    page = html.unescape(browser.get(f"/jobs/{made.dead}").text)
    assert "Attempt 2: failed" in page
    assert "Traceback (most recent call last)" in page
    assert f"pgqueue retry {made.dead}" in page
    assert "its attempts are used up" in page
    assert "attempt 1 failed" in page  # in the picture of its life
    page = html.unescape(browser.get(f"/jobs/{made.scheduled}").text)
    assert "Why it does not run yet" in page
    assert "month-end close" in page  # its queue is paused


def test_unknown_job_is_a_page_of_its_own(browser: Browser) -> None:
    """With 404."""
    answer = browser.get("/jobs/4711")
    assert answer.status_code == 404
    assert "there is no job 4711" in html.unescape(answer.text)


def test_redacted_job_shows_nothing_of_its_payload(client: Client, make: Make) -> None:
    """Neither the page nor a search tells what is in it."""
    number = client.enqueue("k", {"card": "4111111111111111", "ok": True}, max_attempts=1).id
    client.fail(client.claim(), "card 4111111111111111 was refused")
    browser = make(redact=hide_payload)
    page = browser.get(f"/jobs/{number}").text
    assert "4111" not in page
    assert "card" in page
    assert "***" in page
    answer = browser.get('/jobs?payload={"card": "4111111111111111"}')
    assert "cannot be searched" in answer.text
    assert "/jobs/1" not in answer.text


def test_rule_that_fails_shows_nothing(client: Client, make: Make) -> None:
    """What a broken rule would have hidden stays hidden."""
    number = client.enqueue("k", {"card": "4111"}, tags=["4111"]).id

    def broken(job: JobDetail) -> JobDetail:
        raise KeyError(job.id)

    page = make(redact=broken).get(f"/jobs/{number}").text
    assert "4111" not in page
    assert "redact failed" in page


def test_links_stay_below_the_mount(client: Client) -> None:
    """Below a path that an application or a proxy gave it, every link and form has that path."""
    from starlette.applications import Starlette  # noqa: PLC0415

    app = Starlette()
    app.mount("/ops/queue", Dashboard(client, auth=lambda _: User("ada", "operator")))
    client.enqueue("k")
    browser = Browser(app)
    for path in ("/", "/jobs", "/jobs/1", "/queues", "/schedules", "/schedule-new"):
        answer = browser.get(f"/ops/queue{path}")
        assert answer.status_code == 200
        for attribute in ("href", "action", "src"):
            for part in answer.text.split(f' {attribute}="')[1:]:
                assert part.startswith(("/ops/queue/", "#")), part[:60]
    done = browser.post("/ops/queue/jobs/1/cancel", page="/ops/queue/jobs/1")
    assert done.headers["location"] == "/ops/queue/jobs/1"


def test_database_that_is_gone_has_a_page_that_looks_again(client: Client) -> None:
    """It says so, with 503; when the database is back, the page is."""
    gone = Dashboard("host=/nonexistent dbname=x", auth=lambda _: User("ada"))
    with gone:
        answer = Browser(gone).get("/jobs")
    assert answer.status_code == 503
    assert "The database cannot be reached" in answer.text
    assert 'data-retry="1"' in answer.text
    browser = Browser(Dashboard(client, auth=lambda _: User("ada")))
    assert browser.get("/jobs").status_code == 200
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert browser.get("/jobs").status_code == 200


def test_read_that_takes_too_long_is_stopped(client: Client, make: Make) -> None:
    """The deadline is the server's, and the page says what to do."""
    browser = make(deadline=timedelta(milliseconds=200))
    browser.get("/queues")
    with psycopg.connect(client.dsn) as conn:
        conn.execute("lock table pgqueue.queue in access exclusive mode")
        answer = browser.get("/queues/mail")
    assert answer.status_code == 504
    assert "took too long" in answer.text


def test_role_that_may_only_read_is_told_so(client: Client, role: str) -> None:
    """It sees every page, and an action says what grant is missing."""
    number = client.enqueue("k").id
    client.schedules.put(Schedule("s", "k", cron="0 0 * * *"))
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        conn.execute("select pgqueue.grant_access(%s, 'viewer')", (role,))
    dsn = conninfo.make_conninfo(client.dsn, user=role)
    with Dashboard(dsn, auth=lambda _: User("ada", "operator")) as dashboard:
        browser = Browser(dashboard)
        for page in ("/", "/jobs", f"/jobs/{number}", "/queues", "/queues/default", "/schedules",
                     "/schedules/s", "/workers", "/audit", "/doctor"):  # fmt: skip
            assert browser.get(page).status_code == 200, page
        answer = browser.post(f"/jobs/{number}/cancel")
    assert answer.status_code == 403
    assert "The database does not permit this" in answer.text
    assert client.get(number).state == "ready"
