"""Bulk enqueue: by the SQL function, by COPY, and in a stream of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

import pgqueue
from pgqueue import Client, NewJob
from pgqueue.bulk import BATCH, SMALL_BATCH

COLUMNS = (
    "kind, payload, queue, priority, run_at, enqueued_at, position is not null, max_attempts, "
    "backoff, dedupe_key, tags, metadata, ref, attempt, claimed_at, lease_until, "
    "cancel_requested, history"
)
COPIED = SMALL_BATCH
"""So many jobs are stored by COPY."""


@pytest.mark.parametrize("count", [1, SMALL_BATCH - 1, SMALL_BATCH, BATCH, 2 * BATCH + 1])
def test_ids_come_in_the_order_of_the_jobs(client: Client, count: int) -> None:
    """Whichever way they are stored, and claims follow that order."""
    added = client.enqueue_many((("a", n) for n in range(count)), queue="q")
    assert (len(added.ids), added.duplicates, added.enqueued) == (count, 0, count)
    jobs = client.claim("q", limit=count + 1)
    assert [job.payload for job in jobs] == list(range(count))
    assert [job.id for job in jobs] == list(added.ids)


def test_nothing_is_a_bulk_too(client: Client) -> None:
    """An empty iterable stores no jobs."""
    added = client.enqueue_many([])
    assert (list(added.ids), added.enqueued) == ([], 0)


class Kind(str, Enum):
    """Formatted by its name, as any such enum is from Python 3.12 on."""

    MAIL = "mail"

    def __str__(self) -> str:
        return "Kind.MAIL"

    __format__ = __str__  # type: ignore[assignment]


@pytest.mark.parametrize("count", [1, SMALL_BATCH])
def test_enum_is_the_kind_of_its_value(client: Client, count: int) -> None:
    """In pairs as in a NewJob, by COPY as by the function."""
    client.enqueue_many([(Kind.MAIL, 1)] * count, queue=Kind.MAIL)
    client.enqueue_many([NewJob(Kind.MAIL, queue=Kind.MAIL)] * count)
    client.enqueue(Kind.MAIL, queue=Kind.MAIL)
    jobs = client.claim("mail", kinds=[Kind.MAIL], limit=1_000)
    assert [job.kind for job in jobs] == ["mail"] * (2 * count + 1)


def test_pairs_and_new_jobs_may_be_mixed(client: Client) -> None:
    """The queue argument is that of the pairs alone; a payload of None is an empty object."""
    client.enqueue_many([("a", 1), NewJob("a", 2, queue="other"), ("a", None)], queue="q")
    assert [job.payload for job in client.claim("q", limit=3)] == [1, {}]
    assert [job.payload for job in client.claim("other", limit=3)] == [2]


def test_duplicates_give_the_holders_ids(client: Client) -> None:
    """Within the bulk and against what is there; the others are stored."""
    held = client.enqueue("a", dedupe_key="held").id
    keys = ["x", "held", "y", "x"]
    added = client.enqueue_many([NewJob("a", dedupe_key=key) for key in keys])
    assert (added.duplicates, added.enqueued) == (2, 2)
    assert added.ids[1] == held
    assert added.ids[0] == added.ids[3]
    assert len({*added.ids}) == 3


def test_replace_applies_to_each_job(client: Client) -> None:
    """The last payload of a key wins."""
    jobs = [NewJob("a", n, dedupe_key="k", on_conflict="replace") for n in range(3)]
    client.enqueue_many(jobs)
    (job,) = client.claim(limit=3)
    assert job.payload == 2


def test_a_key_among_many_is_honoured(client: Client) -> None:
    """A bulk that COPY could take but for one key does not go by COPY."""
    client.enqueue("a", dedupe_key="k")
    added = client.enqueue_many([("a", 1)] * COPIED + [NewJob("a", 2, dedupe_key="k")])
    assert added.duplicates == 1


def test_raise_stores_nothing(client: Client) -> None:
    """All or none: the jobs before the duplicate are not stored either."""
    client.enqueue("a", dedupe_key="k")
    duplicate = NewJob("a", dedupe_key="k", on_conflict="raise")
    with pytest.raises(pgqueue.DuplicateJob):
        client.enqueue_many([("b", 1), duplicate])
    with pytest.raises(pgqueue.DuplicateJob):
        client.enqueue_many([("b", 1)] * BATCH + [duplicate])
    assert client.list(kind="b") == []


@pytest.mark.parametrize(
    "bad",
    [
        ("a b", {}),
        ("a",),
        ("a", {}, 3),
        "ab",
        ["a", {}],
        None,
        ("a", object()),
        ("a", "\0"),
        ("a", "\ud800"),
        ("a", float("nan")),
        ("a", "x" * 300_000),
        NewJob("a", delay=timedelta(-1)),
        NewJob("a", tags=["\0"]),
        NewJob("a", metadata={"x": "\0"}),
    ],
)
def test_one_bad_job_stores_nothing(client: Client, bad: Any) -> None:
    """Also if whole batches went before it, and however the batch with it would be stored."""
    for before in (0, COPIED, BATCH):
        with pytest.raises(pgqueue.InvalidJob):
            client.enqueue_many([("a", {})] * before + [bad])
    assert client.list() == []


def test_error_of_the_iterable_stores_nothing(client: Client) -> None:
    """It passes through as it is."""

    def jobs() -> Iterator[tuple[str, int]]:
        for n in range(BATCH + 1):
            yield "a", n
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.enqueue_many(jobs())
    assert client.list() == []


class Payload(dict[str, int]):
    """A payload that is counted while it lives."""

    alive = 0

    def __init__(self, n: int) -> None:
        super().__init__(n=n)
        Payload.alive += 1

    def __del__(self) -> None:
        Payload.alive -= 1


def test_stream_is_held_one_batch_at_a_time(client: Client) -> None:
    """Of 100,000 jobs from a generator, no more than the last batch and the next are in memory."""
    most = 0

    def jobs() -> Iterator[tuple[str, Any]]:
        nonlocal most
        for n in range(100_000):
            yield "a", Payload(n)
            most = max(most, Payload.alive)

    added = client.enqueue_many(jobs())
    assert len(added.ids) == 100_000
    assert most <= 2 * BATCH


def test_stream_may_change_its_way_at_any_batch(client: Client) -> None:
    """COPY, the function, and COPY again; one id for each job, in order."""
    sizes = [BATCH] * 3 + [1] + [BATCH] * 9 + [COPIED]
    jobs = [NewJob("a", n) for n in range(sum(sizes))]
    jobs[3 * BATCH] = NewJob("a", 3 * BATCH, dedupe_key="k")
    jobs[12 * BATCH] = NewJob("a", ["x" * 2_000] * 100)
    added = client.enqueue_many(iter(jobs))
    claimed = {job.id: job.payload for job in client.claim(limit=len(jobs) + 1)}
    assert [claimed[job_id] for job_id in added.ids] == [job.payload for job in jobs]


def test_ids_are_right_where_others_enqueue_meanwhile(
    client: Client, connect: Callable[..., Any], sql: Callable[..., Any]
) -> None:
    """Then what is reserved for a bulk has gaps."""
    sql("create sequence public.every")
    sql(
        "create function public.nextval(regclass) returns bigint language plpgsql as $$ begin "
        "if pg_catalog.nextval('public.every') % 700 = 0 then "
        "perform pgqueue.enqueue('other'); end if; return pg_catalog.nextval($1); end $$"
    )
    conn = connect(autocommit=True)
    conn.execute("set search_path = public, pg_catalog")
    added = client.enqueue_many([("a", n) for n in range(BATCH + 5)], conn=conn)
    assert added.ids[-1] - added.ids[0] > BATCH + 4
    claimed = {job.id: job.payload for job in client.claim(kinds=["a"], limit=2 * BATCH)}
    assert [claimed[job_id] for job_id in added.ids] == list(range(BATCH + 5))


def test_bulk_into_a_new_lane_stands_above_its_head(
    client: Client, sql: Callable[..., Any]
) -> None:
    """So that whoever looks for claimed jobs, below the head, does not read all that wait."""
    client.enqueue_many((("a", n) for n in range(9 * BATCH)), queue="fresh")
    ((above,),) = sql("select max(j.position) > max(l.head) from pgqueue.job j, pgqueue.lane l")
    assert above
    assert len(client.claim("fresh", limit=1_000)) == 1_000


def test_slow_stream_is_no_long_statement(
    make_client: Callable[..., Client], pgqueue_dsn: str
) -> None:
    """While the jobs are waited for, no COPY stays open for long: there may be a timeout."""
    client = make_client(make_conninfo(pgqueue_dsn, options="-c statement_timeout=1200ms"))

    def jobs() -> Iterator[tuple[str, int]]:
        for n in range(8 * BATCH):
            if n % BATCH == 0:
                time.sleep(0.3)
            yield "a", n

    assert client.enqueue_many(jobs()).enqueued == 8 * BATCH


def test_100_mb_are_refused_before_they_are_sent(client: Client) -> None:
    """In each way to enqueue, and nothing is stored."""
    huge = "x" * 100_000_000
    with pytest.raises(pgqueue.PayloadTooLarge):
        client.enqueue("a", huge)
    with pytest.raises(pgqueue.PayloadTooLarge):
        client.enqueue_many([("a", huge)])
    with pytest.raises(pgqueue.PayloadTooLarge):
        client.enqueue_many([("a", {})] * COPIED + [("a", huge)])
    assert client.list() == []


@pytest.mark.parametrize(
    "payload, fits",
    [
        ("x" * (1024 - 2), True),
        ("x" * (1024 - 1), False),
        ([1] * 341, True),  # [1, 1, ...]: three bytes each, as Postgres writes it
        ([1] * 342, False),
        ([1e-300] * 3, True),  # 302 bytes each
        ([1e-300] * 4, False),
        ("ä" * 511, True),
        ("ä" * 512, False),
    ],
)
def test_cap_is_the_same_for_every_way(
    client: Client, sql: Callable[..., Any], payload: Any, *, fits: bool
) -> None:
    """It is the size of the text that Postgres makes of the payload which counts."""
    sql("update pgqueue.setting set max_payload_bytes = 1024")
    refused: AbstractContextManager[object]
    refused = nullcontext() if fits else pytest.raises(pgqueue.PayloadTooLarge)
    with refused:
        client.enqueue("a", payload)
    for count in (1, COPIED):
        with refused:
            client.enqueue_many([("a", payload)] * count)
    assert len(client.list(limit=1000)) == (1 + 1 + COPIED if fits else 0)


def test_metadata_has_the_same_cap(client: Client) -> None:
    """It travels with each claim, as the payload does."""
    large = {"x": "x" * 300_000}
    with pytest.raises(pgqueue.PayloadTooLarge, match="metadata"):
        client.enqueue("a", metadata=large)
    for count in (1, COPIED):
        with pytest.raises(pgqueue.PayloadTooLarge, match="metadata"):
            client.enqueue_many([NewJob("a", metadata=large)] * count)
        client.enqueue_many([NewJob("a", metadata={"x": "x" * 200_000})] * count)
    assert len(client.list(limit=1000)) == 1 + COPIED


# COPY against the function

json_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | json_texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_texts, inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
times = st.datetimes(
    datetime(1971, 1, 1), datetime(9998, 1, 1),  # noqa: DTZ001 - made aware by `timezones`
    timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=5, minutes=45))]),
)  # fmt: skip
policies = st.sampled_from(
    [pgqueue.Constant(timedelta(seconds=3)), pgqueue.Exponential(factor=1.5), None]
)
new_jobs = st.builds(
    NewJob,
    st.text("abc.:/@-_09", min_size=1, max_size=128),
    json_values,
    queue=st.text("xyzXYZ", min_size=1, max_size=5),
    priority=st.integers(0, 9),
    max_attempts=st.none() | st.integers(1, 2**31 - 1),
    retry=policies,
    tags=st.none() | st.lists(json_texts, max_size=3),
    metadata=st.none() | st.dictionaries(json_texts, json_values, max_size=2),
    ref=st.none() | json_texts,
) | st.builds(NewJob, st.just("timed"), run_at=times)
delayed = st.timedeltas(timedelta(0), timedelta(days=36_500))
new_jobs |= st.builds(NewJob, st.just("delayed"), delay=delayed)


def test_copy_stores_the_same_rows_as_the_function(client: Client, sql: Callable[..., Any]) -> None:
    """Any jobs, at one and the same time of the database, by one way and by the other."""
    sql(
        "create or replace function pgqueue.clock() returns timestamptz language sql volatile "
        "begin atomic select timestamptz '2026-03-28 12:34:56.789012 Europe/Berlin'; end"
    )

    @settings(
        max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.lists(new_jobs, min_size=1, max_size=5))
    def check(jobs: list[NewJob]) -> None:
        sql("truncate pgqueue.job, pgqueue.lane")
        client.enqueue_many(jobs)
        by_function = sql(f"select {COLUMNS} from pgqueue.job order by id")
        lanes = sql("select distinct queue, priority from pgqueue.lane")
        sql("truncate pgqueue.job, pgqueue.lane")
        client.enqueue_many(jobs * COPIED)
        rows = sql(f"select {COLUMNS} from pgqueue.job order by id limit %s", len(jobs))
        assert rows == by_function
        assert set(sql("select queue, priority from pgqueue.lane")) >= set(lanes)

    check()


# In the caller's transaction


@pytest.mark.parametrize(
    "count, autocommit", [(1, False), (COPIED, True), (BATCH + 1, False), (BATCH + 1, True)]
)
def test_bulk_joins_the_callers_transaction(
    client: Client, connect: Callable[..., psycopg.Connection[Any]], count: int, *, autocommit: bool
) -> None:
    """It happens with its commit, or not at all."""
    conn = connect(autocommit=autocommit)
    with pytest.raises(ZeroDivisionError), conn.transaction():
        client.enqueue_many([("a", {})] * count, conn=conn)
        raise ZeroDivisionError
    assert client.list() == []
    with conn.transaction():
        client.enqueue_many([("a", {})] * count, conn=conn)
        assert client.list() == []
    assert client.purge("default") == count


def test_bulk_begins_the_callers_transaction(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """On a connection that is not in autocommit mode, the caller's commit is awaited."""
    conn = connect()
    client.enqueue_many([("a", {})], conn=conn)
    assert client.list() == []
    conn.rollback()
    assert client.list() == []
    client.enqueue_many([("a", {})], conn=conn)
    conn.commit()
    assert len(client.list()) == 1


@pytest.mark.parametrize("autocommit", [False, True])
def test_failed_bulk_leaves_the_callers_transaction_usable(
    client: Client, connect: Callable[..., psycopg.Connection[Any]], *, autocommit: bool
) -> None:
    """All of the bulk is undone, and nothing else."""
    conn = connect(autocommit=autocommit)
    client.enqueue("k", dedupe_key="k")
    with conn.transaction():
        client.enqueue("kept", conn=conn)
        with pytest.raises(pgqueue.InvalidJob):
            client.enqueue_many([("a", {})] * BATCH + [("a b", {})], conn=conn)
        with pytest.raises(pgqueue.DuplicateJob):
            client.enqueue_many([NewJob("k", dedupe_key="k", on_conflict="raise")], conn=conn)
    assert [job.kind for job in client.list()] == ["kept", "k"]


def test_jobs_may_come_from_the_same_connection(pgqueue_dsn: str) -> None:
    """Row by row: no COPY may be open while the next is fetched."""
    with (
        Client(pgqueue_dsn) as client,
        psycopg.connect(pgqueue_dsn) as conn,
        conn.cursor("stream") as rows,
    ):
        rows.execute(f"select n from generate_series(1, {3 * BATCH}) n")
        added = client.enqueue_many((("a", n) for (n,) in rows), conn=conn)
        conn.commit()
        assert added.enqueued == client.stats()[0].ready == 3 * BATCH


def test_bulk_without_a_transaction_is_one_of_its_own(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """On a connection in autocommit mode, too, it is all or nothing."""
    conn = connect(autocommit=True)
    with pytest.raises(pgqueue.InvalidJob):
        client.enqueue_many([("a", {})] * BATCH + [("a b", {})], conn=conn)
    assert client.list() == []
    client.enqueue_many([("a", {})] * (BATCH + 1), conn=conn)
    assert client.purge("default") == BATCH + 1
