"""Curated inputs wherever they can be passed: through both clients, in SQL, and out of handlers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import chain
from typing import Any

import psycopg
from tests.faults import curated
from tests.faults.harness.database import unfinished
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.trying import SHOWN, Tally, as_json, both_clients, shown

from pgqueue import Client, Handlers, Job, NewJob, Worker

COPIED = 100
"""So many are stored by COPY."""
MANY_TIMES = 10
"""Of each text, so that there are as many."""
FAR = timedelta(days=1)


def run(run: Run) -> Report:
    """Each input either comes back as it was or is refused by name, and no job is left behind."""
    dsn, tally = run.dsn(), Tally(run.rng, share=1 if run.full else 0.15)
    clients = both_clients(dsn)
    for number, client in enumerate(clients):
        _try_json(client, tally)
        _try_texts(client, tally)
        _try_options(client, tally)
        _try_arguments(client, tally)
        run.tell(number + 1, len(clients) + 2)
    _try_sql(dsn, tally)
    left = unfinished(clients[0])
    _try_handlers(clients[0], tally)
    stuck = left + unfinished(clients[0])
    for client in clients:
        client.close()
    return report_of(tally, stuck)


def report_of(tally: Tally, stuck: int) -> Report:
    """The account of what was tried."""
    report = Report(faults=tally.tried, jobs=tally.tried - tally.refused, lost=stuck)
    report.promise("neither the same nor refused by name", len(tally.wrong), 0)
    refused = ", ".join(f"{count} {name}" for name, count in tally.by_error.most_common())
    report.notes.append(f"{tally.tried} tried, {tally.refused} refused: {refused}")
    report.notes += tally.wrong[:SHOWN]
    return report


def _json_values(tally: Tally) -> list[Any]:
    return tally.values((*curated.JSON, *curated.TEXTS, *curated.BAD_TEXTS))


def _try_json(client: Client, tally: Tally) -> None:
    """As payload by each way in, as metadata, and as result."""
    taken = []
    for value in _json_values(tally):
        what = f"payload {shown(value)}"
        is_json, back = as_json(value)
        stored = tally.try_(what, lambda: client.enqueue("k", value))
        bulk = tally.try_(f"bulk {what}", lambda: client.enqueue_many([("k", value)]))
        tally.expect(f"{what} by both ways", bulk is None, stored is None)
        if stored is None:
            tally.try_(
                f"COPY {what}", lambda: client.enqueue_many([("k", 0)] * COPIED + [("k", value)])
            )
            tally.check(f"{what} is stored", holds=client.claim(limit=2) == [])
        else:
            tally.check(f"{what} is no JSON", holds=is_json)
            taken.append(value)
            for job in client.claim(limit=3):
                tally.expect(what, job.payload, back if value is not None else {})
                _end(client, tally, job, value)
        tally.try_(f"metadata {what}", lambda: client.enqueue("k", metadata={"v": value}))
        for job in client.claim(limit=2):
            tally.expect(f"metadata {what}", job.metadata, {"v": back})
            client.ack(job)
    copied = [("k", value) for value in taken if value is not None and len(shown(value)) < 80]
    copied += [("k", 0)] * COPIED
    client.enqueue_many(copied)
    for (_, value), job in zip(copied, client.claim(limit=1_000), strict=True):
        tally.expect(f"COPY {shown(value)}", job.payload, as_json(value)[1])
        client.ack(job)


def _end(client: Client, tally: Tally, job: Job[Any], value: Any) -> None:
    """With the value as its result, or, if that is refused, without."""
    tally.try_(f"result {shown(value)}", lambda: client.ack(job, result=value))
    found = client.get(job.id)
    if found.state == "claimed":
        client.ack(job)
    else:
        tally.expect(f"result {shown(value)}", found.result, as_json(value)[1])


def _try_texts(client: Client, tally: Tally) -> None:
    """In all that is text."""
    given = {text: _options_of(text) for text in tally.values(curated.TEXTS)}
    for text, options in given.items():
        tally.try_(
            f"text {shown(text)}", lambda: client.enqueue("k", text, dedupe_key=text, **options)
        )
    copied = [NewJob("k", text, **options) for text, options in given.items()] * MANY_TIMES
    tally.try_("copied texts", lambda: client.enqueue_many(copied))
    tally.try_("called texts", lambda: client.enqueue_many([*copied, NewJob("k", dedupe_key="x")]))
    jobs = client.claim(limit=10_000)
    tally.expect("texts claimed", len(jobs), len(given) + 2 * len(copied) + 1)
    for job in jobs[:-1]:
        for name, value in given[job.payload].items():
            tally.expect(f"{name} of {shown(job.payload)}", getattr(job, name), value)
        tally.check("dedupe key", holds=job.dedupe_key in (None, job.payload))
    client.cancel_claimed(jobs)
    for text in chain(tally.values(curated.TEXTS), tally.values(curated.BAD_TEXTS[:1])):
        _try_told(client, tally, text)
    for bad in tally.values(curated.BAD_TEXTS):
        for name in ("dedupe_key", "ref", "tags", "metadata", "dedupe_until", "on_conflict"):
            _refused(client, tally, {name: [bad] if name == "tags" else bad})
        tally.try_(f"worker {shown(bad)}", lambda: client.claim(worker=bad))
        tally.try_(f"ref {shown(bad)}", lambda: client.cancel_ref(bad))
        tally.try_(f"filter {shown(bad)}", lambda: client.list(tag=bad, ref=bad))


def _options_of(text: str) -> dict[str, Any]:
    long = len(text.encode()) > COPIED  # an index on `ref` has its limits
    return {"tags": [text, text], "ref": "long" if long else text, "metadata": {text: text}}


def _try_told(client: Client, tally: Tally, text: str) -> None:
    """As what is told of an end: made storable where it is not."""
    told: list[Callable[[Job[Any]], object]] = [
        lambda job: client.fail(job, text),
        lambda job: client.fail(job, ValueError(text)),
        lambda job: client.skip(job, text),
        lambda job: client.cancel_claimed(job, text),
        lambda job: _cancel_and_release(client, job, text),
    ]
    client.enqueue_many([NewJob("k", max_attempts=1)] * len(told))
    refused = tally.refused
    for job, tell in zip(client.claim(limit=len(told)), told, strict=True):
        tally.try_(f"told {shown(text)}", lambda: tell(job))
        tally.check(f"{shown(text)} ends no job", holds=client.get(job.id).state.finished)
    tally.try_(f"pause {shown(text)}", lambda: client.pause("paused", reason=text))
    tally.expect(f"{shown(text)} was refused as a reason", tally.refused, refused)


def _cancel_and_release(client: Client, job: Job[Any], reason: str) -> None:
    client.cancel(job.id, reason)
    client.release(job)


def _refused(client: Client, tally: Tally, options: dict[str, Any], *, good: bool = False) -> None:
    """Options by all ways to enqueue: refused, or (if `good`, surely) stored, then cancelled."""
    what = f"options {shown(options)}"
    kind = options.pop("kind", "k")
    one = tally.try_(what, lambda: client.enqueue(kind, **options))
    many = tally.try_(what, lambda: client.enqueue_many([NewJob(kind, **options)]))
    copied = tally.try_(what, lambda: client.enqueue_many([NewJob(kind, **options)] * COPIED))
    tally.expect(f"{what} in bulk", (many is None, copied is None), (one is None, one is None))
    tally.check(f"{what} was refused", holds=not good or one is not None)
    for result in (many, copied):
        if result is not None:
            client.cancel(list(result.ids))
    if one is not None:
        client.cancel(one.id)


def _try_options(client: Client, tally: Tally) -> None:
    for group in (*curated.NAMES, *curated.TIMES, *curated.SPANS, *curated.NUMBERS):
        good = not group.name.startswith("bad") and group.name != "numbers of options"
        for value in group.values:
            if group in curated.NAMES:
                _refused(client, tally, {"kind": value}, good=good)
                _refused(client, tally, {"queue": value}, good=good)
            elif group in curated.TIMES:
                _refused(client, tally, {"run_at": value}, good=good)
            elif group in curated.SPANS:
                _refused(client, tally, {"delay": value}, good=good)
            else:
                _refused(client, tally, {"priority": value}, good=good)
                _refused(client, tally, {"max_attempts": value}, good=good)
    for value in chain(tally.values(curated.BAD_TEXTS), tally.values(curated.NUMBERS)):
        _refused(client, tally, {"retry": value})


def _try_arguments(client: Client, tally: Tally) -> None:
    """Of all that is no enqueue, on a claimed job, which stays ours as long as nothing ends it."""
    client.enqueue("k")
    (job,) = client.claim(lease=FAR)
    for value in chain(
        tally.values(curated.SPANS), tally.values(curated.TIMES), tally.values(curated.NUMBERS)
    ):
        calls: list[Callable[[], object]] = [
            lambda: client.claim("empty", lease=value),
            lambda: client.claim("empty", limit=value),
            lambda: client.extend(job, value),
            lambda: client.pause("empty", until=value),
            lambda: client.cancel(value),
            lambda: client.cancel(client.retry([value])),
            lambda: client.get(value),
            lambda: client.redrive("empty", limit=value),
            lambda: client.purge("empty", limit=value),
            lambda: client.list(before=value, limit=1),
            lambda: client.ack(value),
            lambda: client.list(state=value),
        ]
        for number, call in enumerate(calls):
            tally.try_(f"argument {number} {shown(value)}", call)
    for name in tally.values(curated.NAMES):
        of_names: list[Callable[[Any], object]] = [
            client.claim, client.purge, client.pause, client.resume, client.redrive,
        ]  # fmt: skip
        for of_name in of_names:
            tally.try_(f"name {shown(name)}", lambda: of_name(name))
        tally.try_(f"name {shown(name)}", lambda: client.claim("empty", kinds=[name]))
        tally.try_(f"name {shown(name)}", lambda: client.list(queue=name, kind=name))
    for span in tally.values(curated.SPANS):
        tally.try_(f"snooze {shown(span)}", lambda: client.snooze(job, span))
        tally.try_(f"fail {shown(span)}", lambda: client.fail(job, retry_in=span))
        client.retry(job.id)
        if client.get(job.id).state != "claimed":
            (job,) = client.claim(lease=FAR)
    client.cancel_claimed(job)


def _try_sql(dsn: str, tally: Tally) -> None:
    """By SQL alone, where errors are those of Postgres, but never internal ones."""
    enqueue = (
        "select id from pgqueue.enqueue('k', %s::jsonb, dedupe_key => %s, ref => %s, "
        "tags => array[%s])"
    )
    with psycopg.connect(dsn, autocommit=True) as conn:
        for value in _json_values(tally):
            text = value if isinstance(value, str) and "\0" not in value else "x"
            tally.tried += 1
            try:
                payload = json.dumps(value, skipkeys=True, default=str)
                row = conn.execute(enqueue, [payload, text, text[:500], text]).fetchone()
            except psycopg.Error as error:
                tally.refused += 1
                internal = (error.sqlstate or "").startswith(("XX", "58", "57"))
                tally.check(f"SQL {shown(value)}: {error}", holds=not internal)
            except (ValueError, RecursionError):
                tally.refused += 1  # of Python's JSON, or of the driver's encoding
            else:
                assert row is not None
                tally.check(f"SQL {shown(value)} is out of sight", holds=_cancelled(conn, row[0]))


def _cancelled(conn: psycopg.Connection[Any], job_id: int) -> bool:
    row = conn.execute("select state from pgqueue.cancel(array[%s]::bigint[])", [job_id]).fetchone()
    return row == ("cancelled",)


def _try_handlers(client: Client, tally: Tally) -> None:
    """Raised or returned by handlers, sync and async: each attempt is recorded, none is stuck."""
    errors, results = tally.some(curated.errors()), _json_values(tally)
    handlers = Handlers()

    @handlers.register("raise", max_attempts=1)
    def raise_(job: Job[int]) -> None:
        raise errors[job.payload]

    @handlers.register("return", max_attempts=1)
    async def return_(job: Job[int]) -> Any:
        return results[job.payload]

    failing = [raise_.enqueue(client, n).id for n in range(len(errors))]
    returning = [return_.enqueue(client, n).id for n in range(len(results))]
    Worker(client, handlers, concurrency=4).run(until_idle=True)
    tally.tried += len(failing) + len(returning)
    for error, job_id in zip(errors, failing, strict=True):
        found = client.get(job_id)
        told = f"{type(error).__name__:.50} of a handler"
        tally.check(f"{told} is {found.state}", holds=found.state == "dead")
        tally.check(f"{told} is not recorded", holds=bool(found.history[0].error_class))
    for value, job_id in zip(results, returning, strict=True):
        found = client.get(job_id)
        if found.state == "succeeded":
            tally.expect(f"returned {shown(value)}", found.result, as_json(value)[1])
        else:
            why = found.history[0].error_class if found.history else None
            tally.check(
                f"returned {shown(value)}: {why}",
                holds=why in ("PayloadError", "PayloadTooLarge", "ConfigurationError"),
            )
