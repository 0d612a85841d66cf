"""What callers pass is checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pgqueue
from pgqueue import Client, InvalidJob, NewJob, arguments
from pgqueue.statements import Statements

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - that is the point
LONG = "x" * 129


@pytest.fixture
def client() -> Client:
    """A client that could not connect: whatever it is asked must fail before it tries."""
    return Client("host=/nonexistent")


NAMES = ["", "a b", "ä", "a\0", "a\n", LONG, "a;b", "a'b", None, 7, b"a", ["a"]]


@pytest.mark.parametrize("name", NAMES)
def test_bad_names_are_refused(client: Client, name: Any) -> None:
    """Of kinds and queues, wherever they are given; the message says what a name is."""
    calls: list[Callable[[], object]] = [
        lambda: client.enqueue(name),
        lambda: client.enqueue("a", queue=name),
        lambda: client.claim([name]),
        lambda: client.claim(kinds=[name]),
        lambda: client.purge(name),
        lambda: client.pause(name),
        lambda: client.resume(name),
    ]
    if name is not None:
        calls += [
            lambda: client.redrive(name),
            lambda: client.redrive(kind=name),
            lambda: client.purge("a", kind=name),
            lambda: client.list(queue=name),
            lambda: client.list(kind=name),
        ]
    for call in calls:
        with pytest.raises(InvalidJob, match="is no name; use 1 to 128"):
            call()


@given(st.text("abzAZ09_.:/@-", min_size=1, max_size=128))
def test_good_names_are_taken(name: str) -> None:
    """Letters, digits and a few signs."""
    assert arguments.checked_name(name, "kind") == name
    assert arguments.checked_names(name, "kind") == [name]
    assert arguments.checked_names((name, name), "kind") == [name, name]


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"priority": -1}, "priority is -1; pass a whole number from 0 to 9"),
    ({"priority": 10}, "priority is 10"),
    ({"priority": 1.0}, "priority is 1.0"),
    ({"priority": True}, "priority is True"),
    ({"priority": None}, "priority is None"),
    ({"run_at": NAIVE}, "pass an aware datetime"),
    ({"run_at": "2030-01-01"}, "pass an aware datetime"),
    ({"run_at": date(2030, 1, 1)}, "pass an aware datetime"),
    ({"run_at": 1900000000}, "pass an aware datetime"),
    ({"delay": timedelta(microseconds=-1)}, "delay is .*; pass a timedelta of zero or more"),
    ({"delay": 5}, "delay is 5; pass a timedelta"),
    (
        {"delay": timedelta(1), "run_at": datetime(2030, 1, 1, tzinfo=timezone.utc)},
        "both run_at and delay",
    ),
    ({"max_attempts": 0}, "max_attempts is 0"),
    ({"max_attempts": 2**31}, "max_attempts is 2147483648"),
    ({"max_attempts": "3"}, "max_attempts is '3'"),
    ({"retry": 3}, "retry is 3; pass Exponential"),
    ({"retry": timedelta(1)}, "pass Exponential"),
    ({"dedupe_key": 7}, "dedupe_key is a int; pass a str"),
    ({"dedupe_key": "a\0"}, "dedupe_key has a NUL"),
    ({"dedupe_key": "\ud800"}, "dedupe_key has a NUL or a lone surrogate"),
    ({"dedupe_until": "end"}, "dedupe_until is 'end'; pass one of 'start', 'finish'"),
    ({"dedupe_until": None}, "dedupe_until is None"),
    (
        {"on_conflict": "ignore"},
        "on_conflict is 'ignore'; pass one of 'return', 'replace', 'raise'",
    ),
    ({"tags": "abc"}, "tags is a str; pass a list of str"),
    ({"tags": 3}, "tags is a int; pass a list of str"),
    ({"tags": ["a", 3]}, "a tag is a int; pass a str"),
    ({"tags": ["\0"]}, "a tag has a NUL"),
    ({"tags": iter(["a"])}, "pass a list of str"),
    ({"metadata": [1]}, "metadata is a list; pass a dict"),
    ({"metadata": "{}"}, "metadata is a str; pass a dict"),
    ({"metadata": {"a": object()}}, "metadata is not JSON"),
    ({"metadata": {"a": "\0"}}, "metadata has a NUL"),
    ({"ref": 7}, "ref is a int; pass a str"),
    ({"ref": "\ud800"}, "ref has a NUL or a lone surrogate"),
    ({"payload": b""}, "payload is not JSON"),
    ({"payload": {"x": float("nan")}}, "payload is not JSON"),
    ({"payload": "\0"}, "payload has a NUL"),
    ({"payload": ["\udc00"]}, "payload has a lone surrogate"),
]


@pytest.mark.parametrize("options, told", BAD_OPTIONS)
def test_bad_options_of_a_job_are_refused(
    client: Client, options: dict[str, Any], told: str
) -> None:
    """Nothing is sent; the message names what is wrong, and mostly what to pass."""
    with pytest.raises(InvalidJob, match=told) as caught:
        client.enqueue("a", **options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("options, told", BAD_OPTIONS)
def test_bad_options_are_refused_in_bulk_too(options: dict[str, Any], told: str) -> None:
    """By the same words, but for metadata, which goes within the job's JSON."""
    told = told.replace("metadata is not", "the job is not").replace("metadata has", "the job has")
    with pytest.raises(InvalidJob, match=told):
        arguments.job_text(arguments.checked_job(NewJob("a", **options)))


class Kind(str, Enum):
    """Kinds as an application may name them."""

    MAIL = "mail"

    def __str__(self) -> str:
        return "Kind.MAIL"

    __format__ = __str__  # type: ignore[assignment] # from Python 3.12 on by itself


class Urgency(int):
    """A number that formats as something else."""

    def __repr__(self) -> str:
        return "urgent"


def test_subclasses_are_stored_by_their_value() -> None:
    """An enum of str is formatted by its name, and would be a kind of that name."""
    job = arguments.checked_job(
        NewJob(Kind.MAIL, queue=Kind.MAIL, priority=Urgency(3), max_attempts=Urgency(4))
    )
    assert [type(value) for value in (job.kind, job.queue, job.priority, job.max_attempts)] == [
        str,
        str,
        int,
        int,
    ]
    assert (job.kind, job.queue, job.priority, job.max_attempts) == ("mail", "mail", 3, 4)
    assert arguments.name_array((Kind.MAIL,), "kind") == '{"mail"}'
    assert arguments.number_array(arguments.as_ids([Urgency(7)])) == "{7}"


def test_what_has_no_repr_is_refused_by_its_type() -> None:
    """Python refuses to write a number of more than 4,300 digits."""
    with pytest.raises(InvalidJob, match="priority is a int; pass a whole number"):
        arguments.checked_job(NewJob("a", priority=10**5_000))


def test_time_in_an_odd_zone_is_the_same_time() -> None:
    """Postgres knows no offset of 16 hours or more; beyond the years there is no time."""
    zone = timezone(timedelta(hours=-23, minutes=-59))
    job = arguments.checked_job(NewJob("a", run_at=datetime(2030, 1, 1, tzinfo=zone)))
    assert job.run_at == datetime(2030, 1, 1, 23, 59, tzinfo=timezone.utc)
    with pytest.raises(InvalidJob, match="pass one from 1900 to 9998"):
        arguments.checked_job(NewJob("a", run_at=datetime.max.replace(tzinfo=zone)))


def test_datetime_without_an_offset_is_naive() -> None:
    """A zone that gives None for this time says nothing."""

    class Nowhere(timezone.__mro__[1]):  # type: ignore[misc,name-defined] # tzinfo
        def utcoffset(self, _: object) -> None:
            return None

    with pytest.raises(InvalidJob):
        arguments.checked_time(NAIVE.replace(tzinfo=Nowhere()), "run_at")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.claim(7),
        lambda c: c.claim(limit=0),
        lambda c: c.claim(limit=1_000_001),
        lambda c: c.claim(limit=1.5),
        lambda c: c.claim(lease=timedelta(0)),
        lambda c: c.claim(lease=timedelta(-1)),
        lambda c: c.claim(lease=30),
        lambda c: c.claim(kinds=7),
        lambda c: c.claim(worker=7),
        lambda c: c.claim(worker="\0"),
        lambda c: c.ack(7),
        lambda c: c.ack([7]),
        lambda c: c.ack(None),
        lambda c: c.ack("job"),
        lambda c: c.fail([7]),
        lambda c: c.skip(7),
        lambda c: c.snooze(7, timedelta(1)),
        lambda c: c.release({1: 2}),
        lambda c: c.extend([7]),
        lambda c: c.extend([], timedelta(0)),
        lambda c: c.cancel("7"),
        lambda c: c.cancel(["7"]),
        lambda c: c.cancel(-1),
        lambda c: c.cancel(2**63),
        lambda c: c.cancel(True),  # noqa: FBT003 - that is the point
        lambda c: c.cancel_ref(7),
        lambda c: c.cancel_ref("\0"),
        lambda c: c.retry(1.5),
        lambda c: c.retry(None),
        lambda c: c.redrive(limit=0),
        lambda c: c.purge("a", limit=-1),
        lambda c: c.pause("a", until=NAIVE),
        lambda c: c.pause("a", until=timedelta(1)),
        lambda c: c.get("7"),
        lambda c: c.get(None),
        lambda c: c.list(limit=0),
        lambda c: c.list(before="7"),
        lambda c: c.list(tag=7),
        lambda c: c.list(ref="\0"),
        lambda c: c.list(state="running"),
        lambda c: c.wait("7", timeout=timedelta(1)),
        lambda c: c.wait(7, timeout=1),
        lambda c: c.wait(7, timeout=timedelta(-1)),
    ],
)
def test_bad_arguments_of_operations_are_refused(
    client: Client, call: Callable[[Any], object]
) -> None:
    """Before anything is sent; else this client would say that it cannot connect."""
    with pytest.raises(InvalidJob, match=r"pass |use |remove it"):
        call(client)


spans = st.timedeltas(timedelta(0), timedelta(days=365 * 8000))


@given(spans)
def test_span_is_written_in_hours(span: timedelta) -> None:
    """So exactly as Python has it."""
    hours, minutes, seconds = arguments.span_text(span).split(":")
    whole, micros = seconds.split(".")
    parts = {"hours": hours, "minutes": minutes, "seconds": whole, "microseconds": micros}
    assert timedelta(**{name: int(value) for name, value in parts.items()}) == span


def test_arrays_are_written_as_postgres_reads_them() -> None:
    """With NULL for None."""
    assert arguments.number_array([]) == "{}"
    assert arguments.number_array([1, 2**62]) == "{1,4611686018427387904}"
    assert arguments.span_array([timedelta(days=1), None]) == "{24:0:0.000000,NULL}"


@pytest.mark.parametrize("delay", [7, timedelta(-1), "1 s"])
def test_bad_delays_of_an_ending_are_refused(delay: Any) -> None:
    """For fails, where None is the policy's own, and for snoozes."""
    statements = Statements()
    statements.fail([], [], [None, timedelta(0)])
    with pytest.raises(InvalidJob, match=r"delay is .*; pass a timedelta of zero or more"):
        statements.fail([], [], [None, delay])
    with pytest.raises(InvalidJob, match=r"delay is .*; pass a timedelta of zero or more"):
        statements.snooze([], [delay])


def test_results_are_json_texts() -> None:
    """None where nothing is to be kept."""
    assert arguments.as_results([], None, None) is None
    assert arguments.as_results([], 7, None) == []
    with pytest.raises(InvalidJob, match="1 results are given for 0 jobs"):
        arguments.as_results([], None, [7])


def test_statement_of_a_list_without_filters() -> None:
    """No condition at all."""
    statement = Statements("My-Schema").list(None, None, None, None, None, None, 7)
    assert statement.sql.endswith('from "My-Schema".all_jobs order by id desc limit %s')
    assert statement.params == (7,)


def test_no_jobs_are_an_empty_call() -> None:
    """Lists, tuples and generators of jobs are all taken."""
    assert arguments.as_jobs(()) == []
    assert arguments.as_jobs(iter([])) == []
    assert arguments.as_ids(range(3)) == [0, 1, 2]
    assert isinstance(pgqueue.Exponential().policy(), dict)
