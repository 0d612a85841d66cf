"""What a poke does: outcomes, limits, budget, late handlers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import (
    Cancel,
    Client,
    Constant,
    EndpointBusy,
    Handlers,
    Job,
    Observer,
    Outcome,
    Retry,
    Skip,
    Snooze,
)
from pgqueue.alerts import Notice, RepeatedFailures, Watch
from pgqueue.endpoint import Endpoint
from pgqueue.events import Ended, Use

from .conftest import SECRET, Make

DEADLINE = 15.0
Process = Callable[..., Any]


def until(condition: Callable[[], object]) -> None:
    """Waits until `condition` holds; fails if it does not in time."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE} s"
        time.sleep(0.005)


def outcomes(answer: Any) -> list[str]:
    """Those of an answer, sorted."""
    return sorted(result["outcome"] for result in answer["results"])


@pytest.fixture(params=["process", "aprocess"])
def process(request: pytest.FixtureRequest) -> Process:
    """Pokes an endpoint, on its own thread or on an event loop of ours."""

    async def on_loop(endpoint: Endpoint, options: Any) -> Any:
        async with endpoint:
            return await endpoint.aprocess(**options)

    def process(endpoint: Endpoint, **options: Any) -> Any:
        if request.param == "process":
            return endpoint.process(**options)
        return asyncio.run(on_loop(endpoint, options))

    return process


def register(
    handlers: Handlers, kind: str, function: Any, *, is_async: bool, **options: Any
) -> None:
    """Registers a sync function, as it is or as an async one."""

    async def run(job: Any) -> Any:
        return function(job)

    handlers.register(kind, **options)(run if is_async else function)


@pytest.mark.parametrize("is_async", [False, True])
def test_every_outcome_is_told_and_stored(
    make: Make, client: Client, process: Process, *, is_async: bool
) -> None:
    """What handlers return and raise ends jobs as in a worker."""
    handlers = Handlers()
    returned = {
        "ok": {"n": 1}, "skip": Skip("why"), "cancel": Cancel("why"), "retry": Retry(),
        "snooze": Snooze(timedelta(hours=1)), "object": object(),
    }  # fmt: skip
    for kind, value in returned.items():
        register(handlers, kind, lambda _, value=value: value, is_async=is_async)
    register(handlers, "last", lambda _: 1 / 0, is_async=is_async, max_attempts=1)
    ids = {kind: client.enqueue(kind).id for kind in returned}
    ids["last"] = client.enqueue("last", max_attempts=1).id
    answer = process(make(handlers))
    told = {result["kind"]: result["outcome"] for result in answer["results"]}
    assert told == {
        "ok": "succeeded", "skip": "skipped", "cancel": "cancelled", "retry": "failed",
        "snooze": "snoozed", "object": "failed", "last": "dead",
    }  # fmt: skip
    assert (answer["processed"], answer["succeeded"], answer["failed"], answer["skipped"]) == (
        7, 1, 3, 1,
    )  # fmt: skip
    states = {kind: str(client.get(job_id).state) for kind, job_id in ids.items()}
    assert states == {
        "ok": "succeeded", "skip": "skipped", "cancel": "cancelled", "retry": "scheduled",
        "snooze": "scheduled", "object": "scheduled", "last": "dead",
    }  # fmt: skip
    assert client.get(ids["ok"]).result == {"n": 1}


def test_due_jobs_are_promoted_and_expired_claims_reaped(
    make: Make, client: Client, process: Process
) -> None:
    """No worker and no other upkeep is needed."""
    scheduled = client.enqueue("sync", delay=timedelta(milliseconds=30)).id
    lost = client.enqueue("async", retry=Constant(timedelta(milliseconds=1))).id
    (job,) = client.claim(kinds=["async"], lease=timedelta(milliseconds=30))
    until(lambda: _is_due(client, scheduled, lost))
    endpoint = make()
    found: dict[int, int] = {}

    def has_both() -> bool:  # a lost attempt backs off
        for result in process(endpoint)["results"]:
            found[result["id"]] = result["attempt"]
        return len(found) > 1

    until(has_both)
    assert found == {scheduled: 1, lost: 2}
    with pytest.raises(pgqueue.LeaseLost):
        client.fail(job, "too late")


def _is_due(client: Client, scheduled: int, lost: int) -> bool:
    with psycopg.connect(client.dsn) as conn:
        row = conn.execute(
            "select bool_and(coalesce(lease_until, run_at) < clock_timestamp()) "
            "from pgqueue.job where id in (%s, %s)", (scheduled, lost),
        ).fetchone()  # fmt: skip
    return bool(row and row[0])


def test_limit_and_the_jobs_that_handlers_enqueue(
    make: Make, client: Client, process: Process
) -> None:
    """A chain is followed within one poke, up to the limit; `more` says that it goes on."""
    handlers = Handlers()
    handlers.register("next")(lambda _: client.enqueue("next").id)
    client.enqueue("next")
    answer = process(make(handlers, limit=5))
    assert (answer["succeeded"], answer["more"]) == (5, True)
    assert process(make(handlers), limit=2)["succeeded"] == 2
    assert [queue.ready for queue in client.stats()] == [1]


def test_no_more_is_claimed_than_can_run(make: Make, client: Client, process: Process) -> None:
    """Neither of both sorts of handlers together, nor in one claim."""
    handlers, lock = Handlers(), threading.Lock()
    claimed: list[int] = []
    sizes: list[int] = []
    query = (
        "select sum(size)::int, max(size) from (select count(*) as size from pgqueue.job "
        "where lease_until is not null group by token) claim"
    )

    def look() -> None:
        with lock, psycopg.connect(client.dsn) as conn:
            for total, largest in conn.execute(query):
                claimed.append(total)
                sizes.append(largest)

    handlers.register("sync")(lambda _: look())

    @handlers.register("async")
    async def _async(_: object) -> None:
        await asyncio.to_thread(look)

    client.enqueue_many([(kind, {}) for kind in ("sync", "async") * 10])
    answer = process(make(handlers, limit=20, concurrency=4, batch=3))
    assert answer["succeeded"] == 20
    assert 1 < max(claimed) <= 4
    assert 1 < max(sizes) <= 3


def test_batches_middleware_payload_types_and_observers(
    make: Make, client: Client, process: Process
) -> None:
    """All that handlers can be told is heeded."""
    handlers, seen = Handlers(), []
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="")

    @handlers.register("batch", batch=3)
    def _batch(jobs: list[Job]) -> list[object]:
        assert where.get() == "inside"
        return [Skip("odd") if job.payload["n"] % 2 else None for job in jobs]

    @handlers.middleware
    @contextlib.contextmanager
    def _around(_: Job) -> Any:
        token = where.set("inside")
        yield
        where.reset(token)

    handlers.on_end(lambda event: seen.append(str(event.outcome)))
    client.enqueue_many([("batch", {"n": n}) for n in range(6)])
    answer = process(make(handlers))
    assert (answer["succeeded"], answer["skipped"]) == (3, 3)
    assert sorted(seen) == outcomes(answer)


def test_timeouts_and_retry_policies(make: Make, client: Client, process: Process) -> None:
    """A handler whose time is up has failed long before the budget is; its job backs off."""
    handlers = Handlers()
    release = threading.Event()
    retry = Constant(timedelta(hours=2))

    @handlers.register("async", timeout=timedelta(seconds=0.1), retry=retry)
    async def _async(_: object) -> None:
        await asyncio.sleep(DEADLINE)

    handlers.register("sync", timeout=timedelta(seconds=0.1))(lambda _: release.wait(DEADLINE))
    client.enqueue("async", retry=retry)
    client.enqueue("sync")
    started = time.monotonic()
    assert outcomes(process(make(handlers))) == ["failed", "failed"]
    release.set()
    assert time.monotonic() - started < DEADLINE
    (job,) = client.list(kind="async")
    assert job.run_at - job.enqueued_at > timedelta(hours=1)


def test_async_handler_past_the_budget_is_cancelled_and_released(
    make: Make, client: Client, process: Process
) -> None:
    """Its job is ready at once, the attempt not counted, and the answer is there in time."""
    handlers, told = Handlers(), []

    @handlers.register("slow")
    async def _slow(_: object) -> None:
        try:
            await asyncio.sleep(DEADLINE)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    job_id = client.enqueue("slow").id
    answer = process(make(handlers, budget=timedelta(seconds=1)))
    assert (outcomes(answer), answer["processed"], told) == (["released"], 0, ["cancelled"])
    assert answer["more"]
    job = client.get(job_id)
    assert (str(job.state), job.attempt) == ("ready", 0)


def test_async_handler_that_ignores_it_is_released_too(make: Make, client: Client) -> None:
    """The answer does not wait for it."""
    handlers, release = Handlers(), threading.Event()

    @handlers.register("stubborn")
    async def _stubborn(_: object) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    client.enqueue("stubborn")
    endpoint = make(handlers, budget=timedelta(seconds=1))
    assert outcomes(endpoint.process()) == ["released"]
    release.set()
    until(lambda: not endpoint._state.pokes)


def test_sync_handler_past_the_budget_counts_when_it_returns(make: Make, client: Client) -> None:
    """It is answered as running, goes on, and is acked since the job is still ours."""
    handlers, release = Handlers(), threading.Event()
    handlers.register("slow")(lambda _: release.wait(DEADLINE))
    endpoint = make(handlers, budget=timedelta(seconds=0.5), most_at_once=1)
    job_id = client.enqueue("slow").id
    answer = endpoint.process()
    assert (outcomes(answer), answer["processed"], answer["more"]) == (["running"], 0, True)
    assert str(client.get(job_id).state) == "claimed"
    with pytest.raises(EndpointBusy) as caught:  # its thread still counts
        endpoint.process()
    assert caught.value.retry_after == 1
    release.set()
    until(lambda: str(client.get(job_id).state) == "succeeded")
    until(lambda: not endpoint._state.pokes)
    assert endpoint.process()["processed"] == 0


def test_late_ack_of_a_job_that_is_not_ours_any_more_is_refused(make: Make, client: Client) -> None:
    """Somebody else claimed it after its lease: what the late handler returned changes nothing."""
    handlers, release, seen = Handlers(), threading.Event(), []
    handlers.on_end(lambda event: seen.append(str(event.outcome)))
    handlers.register("slow")(lambda _: release.wait(DEADLINE) and "late")
    budget = timedelta(seconds=0.3)
    endpoint = make(handlers, budget=budget, lease=budget * 2)
    job_id = client.enqueue("slow").id
    assert outcomes(endpoint.process()) == ["running"]
    until(lambda: client.maintain().reaped)
    client.retry(job_id)
    (job,) = client.claim()
    release.set()
    until(lambda: seen)
    assert seen == ["lost"]
    client.ack(job, result="theirs")
    assert client.get(job_id).result == "theirs"


def test_event_loop_that_a_handler_blocks_does_not_hold_up_the_answer(
    make: Make, client: Client
) -> None:
    """A thread that pokes answers by its own clock; the rest happens when the loop is free."""
    handlers, release = Handlers(), threading.Event()

    @handlers.register("blocks")
    async def _blocks(_: object) -> None:
        release.wait(DEADLINE)

    endpoint = make(handlers, budget=timedelta(seconds=0.5), most_at_once=2)
    job_id = client.enqueue("blocks").id
    assert outcomes(endpoint.process()) == ["running"]
    assert endpoint.process()["results"] == []  # it is not even begun
    release.set()
    until(lambda: not endpoint._state.pokes)
    assert str(client.get(job_id).state) in {"succeeded", "ready"}


def test_cancelled_job_stops_its_handler(make: Make, client: Client, monkeypatch: Any) -> None:
    """Within a beat, as in a worker."""
    monkeypatch.setattr("pgqueue.endpoint.poke.BEAT_SECONDS", 0.05)
    handlers, started = Handlers(), threading.Event()

    @handlers.register("async")
    async def _async(_: object) -> None:
        started.set()
        await asyncio.sleep(DEADLINE)

    @handlers.register("sync")
    def _sync(job: Job) -> Cancel:
        while not job.cancel_requested:
            time.sleep(0.005)
        return Cancel("as asked")

    ids = [client.enqueue(kind).id for kind in ("async", "sync")]
    canceller = threading.Thread(target=lambda: started.wait(DEADLINE) and client.cancel(ids))
    canceller.start()
    assert outcomes(make(handlers).process()) == ["cancelled", "cancelled"]
    canceller.join()


def test_job_that_is_acked_in_its_handlers_transaction(make: Make, client: Client) -> None:
    """It ends with that transaction, sync or async; rolled back, the attempt has failed."""
    handlers = Handlers()

    @handlers.register("sync")
    def _sync(job: Job) -> None:
        with psycopg.connect(client.dsn) as conn:
            job.ack(conn=conn, result="mine")

    @handlers.register("async")
    async def _async(job: Job) -> None:
        async with await psycopg.AsyncConnection.connect(client.dsn) as conn:
            await job.ack(conn=conn, result="mine")
            if job.payload.get("undo"):
                await conn.rollback()

    good = [client.enqueue(kind).id for kind in ("sync", "async")]
    bad = client.enqueue("async", {"undo": True}).id
    assert outcomes(make(handlers).process()) == ["failed", "succeeded", "succeeded"]
    assert [client.get(job_id).result for job_id in good] == ["mine", "mine"]
    assert str(client.get(bad).state) == "scheduled"


def test_paused_queue_is_left_alone(make: Make, client: Client, process: Process) -> None:
    """Pokes go on meanwhile and find nothing."""
    client.enqueue("sync")
    client.pause("default")
    answer = process(make())
    assert (answer["processed"], answer["more"]) == (0, False)


def test_unknown_kinds_are_left_alone(make: Make, client: Client, process: Process) -> None:
    """An old deployment does not swallow new jobs."""
    client.enqueue("other")
    assert process(make())["processed"] == 0
    assert [queue.ready for queue in client.stats()] == [1]


@pytest.mark.parametrize("keep", [True, False])
def test_connections_are_kept_or_not(make: Make, client: Client, *, keep: bool) -> None:
    """Without `keep` all are closed when the answer is there; on an event loop and in a thread."""

    def sessions() -> int:
        with psycopg.connect(client.dsn) as conn:
            row = conn.execute(
                "select count(*)::int from pg_stat_activity "
                "where application_name = 'pgqueue' and datname = current_database() "
                "and pid <> pg_backend_pid()"
            ).fetchone()
        return row[0] if row else 0

    def check() -> None:
        if keep:
            assert 0 < sessions() <= 3
        else:
            until(lambda: sessions() == 0)  # the server takes a moment to notice

    async def on_loop() -> None:
        for _ in range(3):
            await endpoint.aprocess()
        check()
        await endpoint.aclose()

    client.enqueue_many([("sync", {}), ("async", {})])
    client.close()
    endpoint = make(keep=keep)
    asyncio.run(on_loop())
    until(lambda: sessions() == 0)
    for _ in range(3):
        endpoint.process()
    check()
    endpoint.close()
    until(lambda: sessions() == 0)


def test_contextvars_of_the_poke_are_the_handlers(make: Make, client: Client) -> None:
    """Handlers see the context of whoever pokes, such as the app of a framework, as a copy."""
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")
    handlers = Handlers()
    handlers.register("sync")(lambda _: where.get())

    @handlers.register("async")
    async def _async(_: object) -> str:
        return where.get()

    endpoint = make(handlers)
    for place in ("here", "there"):
        where.set(place)
        ids = [client.enqueue(kind).id for kind in ("sync", "async")]
        endpoint.process()
        assert [client.get(job_id).result for job_id in ids] == [place, place]


def test_cancelled_request_ends_its_poke_in_order(make: Make, client: Client) -> None:
    """What the server cancels releases its jobs; what only its client left goes on to its end."""
    handlers, started = Handlers(), asyncio.Event()

    @handlers.register("slow")
    async def _slow(_: object) -> None:
        started.set()
        await asyncio.sleep(DEADLINE)

    job_id = client.enqueue("slow").id

    async def main() -> None:
        async with make(handlers) as endpoint:
            poking = asyncio.create_task(endpoint.arespond("POST", _headers()))
            await asyncio.wait_for(started.wait(), DEADLINE)
            poking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await poking
            (poke,) = endpoint._state.pokes
            assert await poke.ended(DEADLINE)
            assert not endpoint._state.pokes

    asyncio.run(main())
    assert (str(client.get(job_id).state), client.get(job_id).attempt) == ("ready", 0)


def test_close_ends_running_pokes_in_order(make: Make, client: Client) -> None:
    """Their jobs are released, their callers answered, and the endpoint may be used again."""
    handlers, started, answers = Handlers(), threading.Event(), []

    @handlers.register("slow")
    async def _slow(_: Job) -> None:
        if not started.is_set():
            started.set()
            await asyncio.sleep(DEADLINE)

    endpoint = make(handlers)
    client.enqueue("slow")
    poking = threading.Thread(target=lambda: answers.append(endpoint.process()))
    poking.start()
    assert started.wait(DEADLINE)
    endpoint.close()
    poking.join(DEADLINE)
    assert outcomes(answers[0]) == ["released"]
    assert outcomes(endpoint.process()) == ["succeeded"]


def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRET}"}


def test_too_many_pokes_are_turned_away(make: Make, client: Client) -> None:
    """With 429 and when to come again; they are let in when one is over."""
    handlers, release, started = Handlers(), threading.Event(), threading.Event()

    @handlers.register("slow")
    def _slow(_: object) -> None:
        started.set()
        release.wait(DEADLINE)

    endpoint = make(handlers, most_at_once=1, budget=timedelta(seconds=DEADLINE))
    client.enqueue("slow")
    poking = threading.Thread(target=endpoint.process)
    poking.start()
    assert started.wait(DEADLINE)
    answer = endpoint.respond("POST", _headers())
    assert answer.status == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= DEADLINE
    assert asyncio.run(endpoint.arespond("POST", _headers())).status == 429
    release.set()
    poking.join(DEADLINE)
    assert endpoint.respond("POST", _headers()).status == 200


class Heard(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def started(self, worker: str, use: Callable[[], Use]) -> None:
        """In each process."""
        assert worker
        self.told.append(("started", use().held))

    def stopped(self) -> None:
        """The last."""
        self.told.append("stopped")

    def ended(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """In batches."""
        self.told.extend((str(outcome), ending.job.kind) for ending in endings)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "frozen"])
def test_observers_watch_an_endpoint_as_they_do_a_worker(
    make: Make, client: Client, *, keep: bool
) -> None:
    """From its first poke until it is closed; where the process may be frozen, poke by poke."""
    heard = Heard()
    endpoint = make(observers=[heard], keep=keep)
    for _ in range(2):
        client.enqueue("sync", {"result": 1})
        endpoint.process()
    endpoint.close()
    poke: list[object] = [("succeeded", "sync")]
    started: list[object] = [("started", 0)]
    if keep:
        assert heard.told == [*started, *poke, *poke, "stopped"]
    else:
        assert heard.told == [*started, *poke, "stopped"] * 2
    endpoint.close()
    assert heard.told.count("stopped") == (1 if keep else 2)


def test_alerts_are_sent_of_what_an_endpoint_ran(make: Make, client: Client) -> None:
    """Repeated failures, without any worker."""
    notices: list[Notice] = []
    watch = Watch(client, senders=[notices.append], rules=[RepeatedFailures(least=3)])
    handlers = Handlers()
    handlers.register("broken")(lambda job: job.payload["missing"])
    with make(handlers, observers=[watch]) as endpoint:
        client.enqueue_many([("broken", {})] * 3)
        assert endpoint.process()["failed"] == 3
    watch.look()
    assert [(notice.rule, notice.key) for notice in notices] == [("repeated_failures", "broken")]
