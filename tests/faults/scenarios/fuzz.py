"""Inputs that nobody thought of: hypothesis makes them up, of all types, for all arguments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tests.faults.harness.database import unfinished
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.scenarios.inputs import report_of
from tests.faults.trying import Tally, as_json, both_clients, shown

from pgqueue import Client, Job, NewJob

any_text = st.text(st.characters(), max_size=50)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary(max_size=9)
    | st.decimals() | st.complex_numbers() | st.timedeltas() | st.datetimes() | st.uuids()
)  # fmt: skip
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(any_text | st.integers() | st.none(), inner, max_size=5)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)  # fmt: skip
name = st.text("abzAZ09_.:/@-", min_size=1, max_size=128)
good: dict[str, st.SearchStrategy[Any]] = {
    "queue": name,
    "priority": st.integers(0, 9),
    "delay": st.timedeltas(timedelta(0), timedelta(days=9)),
    "max_attempts": st.integers(1, 2**31 - 1),
    "dedupe_key": any_text,
    "dedupe_until": st.sampled_from(["start", "finish"]),
    "on_conflict": st.sampled_from(["return", "replace", "raise"]),
    "tags": st.lists(any_text, max_size=3),
    "metadata": st.dictionaries(st.text(max_size=9), json, max_size=3),
    "ref": any_text,
}
odd: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(good, leaves | any_text),
    "run_at": st.datetimes(timezones=st.timezones()) | leaves,
    "delay": st.timedeltas() | leaves,
    "tags": st.lists(leaves, max_size=3),
    "metadata": st.dictionaries(any_text, anything, max_size=3) | anything,
    "retry": leaves,
}
one_odd = st.sampled_from(sorted(odd)).flatmap(
    lambda option: st.fixed_dictionaries({option: odd[option]})
)
options = st.builds(
    lambda usual, odd: {**usual, **odd},
    st.fixed_dictionaries({}, optional=good),
    st.just({}) | st.just({}) | one_odd,
)
ENDS: dict[str, Callable[[Client, Job[Any], Any], object]] = {
    "ack": lambda client, job, value: client.ack(job, result=value),
    "fail": lambda client, job, value: client.fail(job, value),
    "raise": lambda client, job, value: client.fail(job, ValueError(value)),
    "fail in": lambda client, job, value: client.fail(job, retry_in=value),
    "snooze": lambda client, job, value: client.snooze(job, value),
    "extend": lambda client, job, value: client.extend(job, value),
    "skip": lambda client, job, value: client.skip(job, value),
}
WHATEVER = st.sampled_from(["fail in", "snooze", "extend", "ack"])
TEXTUAL = st.sampled_from(["fail", "raise", "skip"])
ends = st.tuples(WHATEVER, anything) | st.tuples(TEXTUAL, any_text)


def run(run: Run) -> Report:
    """Each is stored as it is or refused by name, and no job is left behind."""
    examples, tally = run.count(300, 10_000), Tally(run.rng, 1)
    clients = both_clients(run.dsn())
    done = 0

    @seed(run.seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind=name | name | any_text, payload=json | json | anything, given=options, end=ends)
    def try_all(kind: Any, payload: Any, given: dict[str, Any], end: tuple[str, Any]) -> None:
        nonlocal done
        client = clients[done % 2]
        done += 1
        _try_one(client, tally, (kind, payload, given), end, bulk=done % 3 == 0)
        run.tell(done, examples)

    try_all()
    stuck = unfinished(clients[0])
    for client in clients:
        client.close()
    return report_of(tally, stuck)


def _try_one(
    client: Client,
    tally: Tally,
    job: tuple[Any, Any, dict[str, Any]],
    end: tuple[str, Any],
    *,
    bulk: bool,
) -> None:
    kind, payload, given = job
    what = f"enqueue {shown(job)}"
    if bulk:
        stored = tally.try_(what, lambda: client.enqueue_many([NewJob(kind, payload, **given)]))
        job_id = None if stored is None else stored.ids[0]
    else:
        stored = tally.try_(what, lambda: client.enqueue(kind, payload, **given))
        job_id = None if stored is None else stored.id
    if job_id is None:
        return
    found = client.get(job_id)
    tally.expect(what, found.payload, {} if payload is None else as_json(payload)[1])
    for name in ("dedupe_key", "ref", "tags"):
        tally.expect(f"{name} of {what}", getattr(found, name), given.get(name))
    for claimed in client.claim(found.queue, kinds=[found.kind]):
        _try_end(client, tally, claimed, *end)
    client.cancel(job_id)
    tally.check(f"{what} cannot be cancelled", holds=client.get(job_id).state.finished)


def _try_end(client: Client, tally: Tally, job: Job[Any], how: str, value: Any) -> None:
    what = f"{how} {shown(value)}"
    tally.try_(what, lambda: ENDS[how](client, job, value))
    found = client.get(job.id)
    if found.state == "claimed":
        client.cancel_claimed(job)
    elif found.state == "succeeded":
        tally.expect(what, found.result, as_json(value)[1])
