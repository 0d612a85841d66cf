"""Jobs of other queues go on here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from pgqueue import Client, ConfigurationError, InvalidJob, JobState
from pgqueue.transfer import Choice, inspect_other, others, take_over

from .conftest import Sql

FAR = datetime(2090, 1, 1, tzinfo=timezone.utc)
Waiting = Callable[[], list[Any]]


def test_messages_of_pgmq_become_jobs(client: Client, pgmq: Sql, waiting: Waiting) -> None:
    """Those that are delayed wait on, and one that is being read stays with its reader."""
    pgmq(
        "insert into pgmq.q_orders (vt, message, read_ct) values "
        "(now(), '{\"n\": 1}', 0), (now() - interval '1s', '{\"n\": 2}', 3), "
        "(%s, '{\"n\": 3}', 0), (%s, '{\"n\": 4}', 1)",
        FAR, FAR,
    )  # fmt: skip
    choice = Choice(source="pgmq", name="Orders", queue="shop", kind="order.ship")
    found = inspect_other(client, choice)
    assert (found.waiting, found.running, found.kinds) == (3, 1, {"order.ship": 3})
    taken = take_over(client, choice)
    assert (taken.enqueued, taken.duplicates) == (3, 0)
    assert waiting() == [("shop", "order.ship", {"n": n}, 5) for n in (1, 2, 3)]
    assert pgmq("select msg_id from pgmq.q_orders") == [(4,)]
    (later,) = client.list(state=JobState.SCHEDULED)
    assert later.run_at == FAR
    assert client.claim("shop", limit=2)[1].metadata["pgmq"]["read_ct"] == 3  # type: ignore[index]


def test_kind_comes_out_of_the_message(client: Client, pgmq: Sql, waiting: Waiting) -> None:
    """By a key that the caller names."""
    pgmq('insert into pgmq.q_orders (vt, message) values (now(), \'{"type": "ship"}\')')
    take_over(client, Choice(source="pgmq", name="orders", kind_key="type"))
    assert waiting() == [("orders", "ship", {"type": "ship"}, 5)]


def test_message_without_a_kind_is_named_and_stays(client: Client, pgmq: Sql) -> None:
    """Before anything is moved, and again if it is moved all the same."""
    pgmq(
        "insert into pgmq.q_orders (vt, message) "
        "values (now(), '{\"type\": \"a b\"}'), (now(), '[]')"
    )
    choice = Choice(source="pgmq", name="orders", kind_key="type")
    problems = inspect_other(client, choice).problems
    assert sorted(problems.values()) == [1, 1]
    assert any("it has no kind" in problem for problem in problems)
    with pytest.raises(InvalidJob, match="with id 1 stays"):
        take_over(client, choice)
    assert pgmq("select count(*) from pgmq.q_orders") == [(2,)]
    assert client.stats() == []


def test_tasks_of_procrastinate_become_jobs(
    client: Client, procrastinate: Sql, waiting: Waiting
) -> None:
    """Their priorities turned round, their queueing locks as dedupe keys until they start."""
    procrastinate(
        "insert into procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, "
        "args, scheduled_at, status, attempts) values "
        "('mail', 'app.send', 0, null, null, '{\"to\": \"a\"}', null, 'todo', 0), "
        "('mail', 'app.send', 9, 'l', 'q', '{\"to\": \"b\"}', null, 'todo', 2), "
        "('mail', 'app.send', -3, null, null, '{\"to\": \"c\"}', %s, 'todo', 0), "
        "('mail', 'app.send', 0, null, null, '{\"to\": \"d\"}', null, 'doing', 1), "
        "('mail', 'app.send', 0, null, null, '{\"to\": \"e\"}', null, 'succeeded', 1)",
        FAR,
    )
    choice = Choice(source="procrastinate")
    found = inspect_other(client, choice)
    assert (found.waiting, found.running, found.problems) == (3, 1, {})
    assert list(found.dropped.values()) == [1]
    take_over(client, choice)
    assert waiting() == [
        ("mail", "app.send", {"to": "b"}, 0),
        ("mail", "app.send", {"to": "a"}, 5),
        ("mail", "app.send", {"to": "c"}, 8),
    ]
    assert procrastinate("select status from procrastinate_jobs order by id") == [
        ("doing",), ("succeeded",),
    ]  # fmt: skip
    assert client.enqueue("app.send", queue="mail", dedupe_key="q").duplicate
    (first,) = client.claim("mail", limit=1)
    assert first.metadata["procrastinate"]["lock"] == "l"  # type: ignore[index]
    assert not client.enqueue("app.send", queue="mail", dedupe_key="q").duplicate


def test_jobs_of_pgqueuer_become_jobs(client: Client, pgqueuer: Sql) -> None:
    """JSON as it is, other text as a string, and bytes in base64."""
    pgqueuer(
        "insert into pgqueuer (priority, entrypoint, status, payload, dedupe_key, execute_after) "
        "values (0, 'send', 'queued', %s, null, now()), "
        "(0, 'send', 'queued', 'no json', null, now()), "
        "(0, 'send', 'queued', %s, 'k', now()), (0, 'send', 'queued', null, null, %s), "
        "(1, 'send', 'queued', 'NaN', null, now()), (0, 'send', 'picked', '1', null, now())",
        b'{"n": 1}', b"\xff\x00", FAR,
    )  # fmt: skip
    choice = Choice(source="pgqueuer", queue="mail", kind="mail.send")
    assert inspect_other(client, choice).kinds == {"mail.send": 5}
    assert take_over(client, choice).enqueued == 5
    jobs = client.claim("mail", limit=9)
    assert [job.payload for job in jobs] == ["NaN", {"n": 1}, "no json", {"base64": "/wA="}]
    assert {job.kind for job in jobs} == {"mail.send"}
    assert client.list(state=JobState.SCHEDULED)[0].run_at == FAR
    assert pgqueuer("select status::text from pgqueuer") == [("picked",)]
    assert client.enqueue("mail.send", dedupe_key="k").duplicate


def test_many_go_chunk_by_chunk_in_their_order(
    client: Client, pgqueuer: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chunk is noted in the audit log."""
    monkeypatch.setattr(others, "CHUNK", 100)
    pgqueuer(
        "insert into pgqueuer (priority, entrypoint, status, payload) "
        "select 0, 'send', 'queued', convert_to(n::text, 'UTF8') from generate_series(1, 250) n"
    )
    told: list[int] = []
    take_over(client, Choice(source="pgqueuer"), on_progress=told.append, actor="ada")
    assert told == [100, 200, 250]
    assert [job.payload for job in client.claim("default", limit=999)] == list(range(1, 251))
    entries = client.operations.audit(action="take_over", actor="ada")
    assert [entry.affected for entry in entries] == [50, 100, 100]


def test_job_that_does_not_fit_stays_with_its_chunk(client: Client, pgqueuer: Sql) -> None:
    """It is counted beforehand, too."""
    pgqueuer(
        "insert into pgqueuer (priority, entrypoint, status, payload) values "
        "(0, 'send', 'queued', convert_to(to_json(repeat('x', 300000))::text, 'UTF8'))"
    )
    choice = Choice(source="pgqueuer")
    assert list(inspect_other(client, choice).problems.values()) == [1]
    with pytest.raises(InvalidJob, match=r"stay where they are: .*over the limit"):
        take_over(client, choice)
    assert pgqueuer("select count(*) from pgqueuer") == [(1,)]


def test_held_keys_are_counted(client: Client, pgqueuer: Sql) -> None:
    """The job that holds the key here stands for it."""
    client.enqueue("send", dedupe_key="k")
    pgqueuer(
        "insert into pgqueuer (priority, entrypoint, status, dedupe_key) "
        "values (0, 'send', 'queued', 'k')"
    )
    assert take_over(client, Choice(source="pgqueuer")).duplicates == 1


@pytest.mark.parametrize("source", ["pgmq", "procrastinate", "pgqueuer"])
def test_source_that_is_not_there_is_an_error(client: Client, source: Any) -> None:
    """Which says where to look."""
    choice = Choice(source=source, name="nowhere", kind="a")
    for act in (inspect_other, take_over):
        with pytest.raises(ConfigurationError, match=r"name its schema.* database"):
            act(client, choice)


@pytest.mark.parametrize(
    "given, says",
    [
        ({"source": "celery"}, "use one of"),
        ({"source": "pgmq", "kind": "a"}, "name the queue"),
        ({"source": "pgmq", "name": "q"}, "has no kind"),
        ({"source": "pgmq", "name": "q", "kind": "a", "kind_key": "b"}, "has no kind"),
        ({"source": "pgqueuer", "kind_key": "b"}, "only messages of PGMQ"),
        ({"source": "pgmq", "name": "q", "kind_key": "100%"}, "with a %"),
    ],
)
def test_choice_that_makes_no_sense_is_refused(given: dict[str, Any], says: str) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigurationError, match=says):
        Choice(**given)


def test_names_are_checked() -> None:
    """Before anything is asked for."""
    with pytest.raises(InvalidJob):
        Choice(source="pgqueuer", queue="no name")
