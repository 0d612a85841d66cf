"""What operators do, over HTTP: that it happens, and that the audit log says who did it."""

from __future__ import annotations

from datetime import timedelta

import psycopg
from tests.dashboard.conftest import Browser

from pgqueue import Client, JobFilter, Schedule


def _dead(client: Client, count: int = 1) -> list[int]:
    ids = [client.enqueue("mail", {"n": n}, max_attempts=1).id for n in range(count)]
    client.fail(client.claim(limit=count), ValueError("no"))
    return ids


def _last(client: Client) -> tuple[str, str, str, int]:
    entry = client.operations.audit(limit=1)[0]
    return entry.actor, entry.via, entry.action, entry.affected


def test_dead_job_is_retried(client: Client, browser: Browser) -> None:
    """From its page, by name, and the next page says so."""
    (number,) = _dead(client)
    answer = browser.post(f"/jobs/{number}/retry", page=f"/jobs/{number}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{number}")
    assert browser.said() == f"Job {number} runs again."
    assert client.get(number).state == "ready"
    assert _last(client) == ("ada", "dashboard", "retry", 1)


def test_what_was_not_done_is_not_said_to_be(client: Client, browser: Browser) -> None:
    """A job that is ready is not retried, one that is finished is not cancelled."""
    number = client.enqueue("k").id
    browser.post(f"/jobs/{number}/retry")
    assert "was not retried" in browser.said()
    client.ack(client.claim())
    browser.post(f"/jobs/{number}/cancel")
    assert "was not cancelled" in browser.said()
    for action, fields in (("run-now", {}), ("edit", {"priority": "1"})):
        answer = browser.post(f"/jobs/{number}/{action}", fields)
        assert answer.status_code == 409
        assert "Nothing was done" in answer.text


def test_waiting_job_is_edited_run_and_cancelled(client: Client, browser: Browser) -> None:
    """Time and priority change, run now makes it ready, cancel ends it with the reason."""
    number = client.enqueue("k", delay=timedelta(days=2)).id
    browser.post(f"/jobs/{number}/edit", {"run_at": "2100-01-31 18:00", "priority": "2"})
    job = client.get(number)
    assert (job.run_at.year, job.run_at.hour, job.priority) == (2100, 18, 2)
    browser.post(f"/jobs/{number}/edit", {"run_at": "soon"})
    assert "write 2030-01-31 18:00" in browser.said()
    browser.post(f"/jobs/{number}/run-now")
    assert client.get(number).state == "ready"
    browser.post(f"/jobs/{number}/cancel", {"reason": "asked by support"})
    assert client.get(number).history[-1].error == "asked by support"
    browser.post(f"/jobs/{number}/delete")
    assert client.operations.count(JobFilter(ids=[number])).number == 0
    actions = [entry.action for entry in client.operations.audit()]
    assert actions == ["delete", "cancel", "run_now", "edit"]
    assert {entry.actor for entry in client.operations.audit()} == {"ada"}


def test_bulk_previews_and_then_does_to_all_that_fit(client: Client, browser: Browser) -> None:
    """The preview counts and changes nothing; the action keeps to its filter."""
    ids = _dead(client, 7)
    other = client.enqueue("other", max_attempts=1).id
    client.fail(client.claim(), "no")
    page = browser.get("/jobs/bulk?action=retry&state=dead&kind=mail").text
    assert "Retry 7 jobs?" in page
    assert client.get(ids[0]).state == "dead"
    browser.post(
        "/jobs/bulk", {"action": "retry", "state": "dead", "kind": "mail", "reason": "mended"}
    )
    assert browser.said() == "7 jobs retried."
    assert {str(client.get(each).state) for each in ids} == {"ready"}
    assert client.get(other).state == "dead"
    (entry,) = client.operations.audit()
    assert entry.filter == {"state": ["dead"], "kind": "mail"}
    assert "mended" in str(entry.detail)


def test_selected_jobs_are_cancelled(client: Client, browser: Browser) -> None:
    """Those and no others."""
    ids = [client.enqueue("k").id for _ in range(4)]
    page = browser.get(f"/jobs/bulk?action=cancel&ids={ids[0]}&ids={ids[2]}").text
    assert "Cancel 2 jobs?" in page
    browser.post("/jobs/bulk", {"action": "cancel", "ids": f"{ids[0]},{ids[2]}"})
    states = [str(client.get(each).state) for each in ids]
    assert states == ["cancelled", "ready", "cancelled", "ready"]


def test_nothing_is_deleted_without_a_choice(client: Client, browser: Browser) -> None:
    """Neither shown nor done."""
    number = client.enqueue("k").id
    assert browser.get("/jobs/bulk?action=delete").status_code == 422
    assert browser.post("/jobs/bulk", {"action": "delete"}).status_code == 422
    assert browser.get("/jobs/bulk?action=burn").status_code == 422
    assert client.get(number).state == "ready"


def test_queue_is_paused_until_a_time_and_resumed(client: Client, browser: Browser) -> None:
    """With a reason, which its page shows."""
    client.enqueue("k", queue="mail")
    browser.post("/pause", {"queue": "mail", "for": "1h", "reason": "provider down"})
    assert client.claim("mail") == []
    page = browser.get("/queues/mail").text
    assert "provider down" in page
    (stats,) = client.stats()
    assert stats.paused_until is not None
    browser.post("/resume", {"queue": "mail"})
    assert browser.said() == "Queue mail goes on."
    assert len(client.claim("mail")) == 1
    assert [e.action for e in client.operations.audit()] == ["resume", "pause"]


def test_everything_is_paused_and_goes_on(client: Client, browser: Browser) -> None:
    """Each page says so meanwhile."""
    client.enqueue("k")
    browser.post("/pause-all", {"for": "", "reason": "moving house"})
    assert client.claim() == []
    for path in ("/", "/jobs", "/queues"):
        page = browser.get(path).text
        assert "All automatic processing is paused" in page
        assert "moving house" in page
    browser.post("/resume-all")
    assert "All automatic processing is paused" not in browser.get("/").text
    assert len(client.claim()) == 1


FORM = {
    "name": "nightly", "kind": "report", "payload": '{"all": true}', "when": "cron",
    "cron": "30 3 * * 1-5", "timezone": "Europe/Berlin", "queue": "reports", "priority": "3",
    "tags": "a, b", "grace": "5", "grace_unit": "minutes",
}  # fmt: skip


def test_schedule_is_made_shown_edited_and_run(client: Client, browser: Browser) -> None:
    """What the form has no field for stays as it is."""
    answer = browser.post("/schedule-put", {**FORM, "preview": "1"})
    assert "It would run" in answer.text
    assert client.schedules.list() == []
    answer = browser.post("/schedule-put", FORM)
    assert answer.headers["location"] == "/schedules/nightly"
    made = client.schedules.get("nightly").schedule
    assert (made.cron, made.timezone, made.payload) == (
        "30 3 * * 1-5", "Europe/Berlin", {"all": True},
    )  # fmt: skip
    assert (made.tags, made.priority, made.grace) == (["a", "b"], 3, timedelta(minutes=5))

    client.schedules.put(Schedule("poll", "k", every=timedelta(hours=6), metadata={"a": 1}))
    page = browser.get("/schedule-edit/poll").text
    assert 'name="every" id="f-every" value="6"' in page
    browser.post(
        "/schedule-put",
        {"editing": "poll", "kind": "k", "when": "every", "every": "90", "every_unit": "minutes"},
    )
    changed = client.schedules.get("poll").schedule
    assert (changed.every, changed.metadata) == (timedelta(minutes=90), {"a": 1})

    browser.post("/schedule-do/run", {"name": "poll"})
    assert [run.outcome for run in client.schedules.runs("poll")] == ["manual"]
    browser.post("/schedule-do/disable", {"name": "poll"})
    assert not client.schedules.get("poll").enabled
    browser.post("/schedule-do/enable", {"name": "poll"})
    assert client.schedules.get("poll").enabled
    browser.post("/schedule-do/remove", {"name": "poll"})
    assert [state.name for state in client.schedules.list()] == ["nightly"]
    assert [e.action for e in client.operations.audit()] == [
        "schedule_remove", "schedule_enable", "schedule_disable", "schedule_run",
        "schedule_put", "schedule_put",
    ]  # fmt: skip


def test_schedule_that_cannot_be_keeps_what_was_typed(client: Client, browser: Browser) -> None:
    """The form comes back with what is wrong, and nothing is stored."""
    for wrong in (
        {"cron": "99 * * * *"}, {"payload": "{"}, {"timezone": "Mars/Base"}, {"priority": "x"},
        {"window_start": "09:00"}, {"name": "a b"}, {"when": "every", "every": "x"},
    ):  # fmt: skip
        answer = browser.post("/schedule-put", {**FORM, **wrong})
        assert answer.status_code == 422, wrong
        assert 'role="alert"' in answer.text
        assert "Europe/Berlin" in answer.text or "Mars/Base" in answer.text
    assert client.schedules.list() == []


def test_schedule_of_a_taken_name_is_not_overwritten(client: Client, browser: Browser) -> None:
    """A new one does not replace one that is there."""
    client.schedules.put(Schedule("nightly", "old", cron="0 0 * * *"))
    assert browser.post("/schedule-put", FORM).status_code == 422
    assert client.schedules.get("nightly").schedule.kind == "old"


def test_action_and_its_audit_entry_happen_together(client: Client, browser: Browser) -> None:
    """Where the log cannot be written, nothing is done either."""
    client.schedules.put(Schedule("s", "k", cron="0 0 * * *"))
    with psycopg.connect(client.dsn) as conn:
        conn.execute("alter table pgqueue.audit rename to gone")
    answer = browser.post("/schedule-do/run", {"name": "s"})
    assert answer.status_code == 503
    assert client.list() == []
    assert client.schedules.runs("s") == []
