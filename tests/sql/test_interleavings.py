"""Each pair of operations on one job, the second begun while the first's transaction is open.

The first then commits or rolls back. Whatever the pair: no error, no deadlock, the job in exactly one place and as the
last one left it that had its way, and of two ends with one token at most one has it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

HOUR = timedelta(hours=1)


def _by_token(function: str, **named: Any) -> Any:
    return lambda db, job: db.value(function, [job.id], [job.token], **named) == []


# Each tells whether it had its way.
ENDS: dict[str, Any] = {
    "ack": _by_token("ack"),
    "skip": _by_token("skip"),
    "cancel_claimed": _by_token("cancel_claimed"),
}
PUTS_BACK: dict[str, Any] = {
    "fail": _by_token("fail"),
    "snooze": _by_token("snooze", delays=[timedelta(0)]),
    "release": _by_token("release"),
    "reap": lambda db, _: db.value("reap") > 0,
}
OTHERS: dict[str, Any] = {
    "extend": lambda db, job: bool(db.call("extend", [job.id], [job.token], HOUR)),
    "claim": lambda db, job: job.id in [claimed.id for claimed in db.claim(5, floors=[0] * 10)],
    "cancel": lambda db, job: bool(db.call("cancel", [job.id])),
    "retry": lambda db, job: bool(db.call("retry", [job.id])),
    "purge": lambda db, _: db.value("purge", "default") > 0,
    "promote": lambda db, _: db.value("promote") > 0,
    "replace": lambda db, _: (
        db.call("enqueue", "k", dedupe_key="x", on_conflict="replace")[0].duplicate
    ),
    "replace_many": lambda db, _: db.enqueue_many(
        {"kind": "k", "dedupe_key": "x", "on_conflict": "replace"}
    )[0][2],
    "enqueue": lambda db, _: db.call("enqueue", "k", dedupe_key="x")[0].duplicate,
    "redrive": lambda db, _: db.value("redrive") > 0,
    "pause": lambda db, _: db.call("pause", "default") != [],
    "fold": lambda db, _: db.call("_fold_lanes", True) != [],
    "maintain": lambda db, _: bool(db.call("maintain")),
}
OPERATIONS = {**ENDS, **PUTS_BACK, **OTHERS}
START = {
    "claimed": [*ENDS, *PUTS_BACK, *OTHERS],
    "ready": [
        "claim", "cancel", "retry", "purge", "replace", "replace_many", "enqueue", "pause", "fold", "maintain",
    ],
    "due": ["claim", "cancel", "retry", "purge", "promote", "replace", "replace_many", "enqueue", "maintain"],
    "dead": ["retry", "redrive", "replace", "enqueue", "cancel", "claim", "maintain", "fail", "ack"],
}  # fmt: skip
# What the job is, once the operation had its way. (A put-back that is a repetition leaves it as it was.)
PUT_BACK = {"ready", "scheduled", "dead", "cancelled", "skipped"}
LEAVES: dict[str, set[str | None]] = {
    "ack": {"succeeded"},
    "skip": {"skipped"},
    "cancel_claimed": {"cancelled"},
    **{name: {*PUT_BACK} for name in PUTS_BACK},
    "extend": {"claimed"},
    "claim": {"claimed"},
    "cancel": {"cancelled", "claimed"},
    "retry": {"ready"},
    "redrive": {"ready"},
    "promote": {"ready"},
    "purge": {None},
}


def _prepare(db: Db, start: str, scope: str) -> Any:
    for table in ("job", "archive", "lane", "queue"):
        db.rows(f"delete from pgqueue.{table}")
    for register in ("promote_floor", "promote_rescan", "reap_rescan", "lanes_rescan"):
        db.rows(f"select setval('pgqueue.{register}', 0)")
    job_id = db.enqueue(
        dedupe_key="x", dedupe_until=scope, max_attempts=1 if start == "dead" else 5
    )
    if start == "due":
        db.rows("update pgqueue.job set position = null, run_at = '2020-01-01'")
    if start in ("claimed", "dead"):
        job = db.claim_one()
        if start == "dead":
            db.end("fail", job)
        else:
            db.expire(job_id)
        return job
    return db.rows("select id, 0::bigint as token from pgqueue.job")[0]


def _is_done_before_it_is_blocked(watch: Db, pid: int, future: Any) -> bool:
    deadline = time.monotonic() + 10
    while not future.done():
        assert time.monotonic() < deadline
        if watch.one("select cardinality(pg_blocking_pids(%s))", pid):
            return False
        time.sleep(0.001)
    return True


@pytest.mark.parametrize("scope", ["finish", "start"])
@pytest.mark.parametrize(
    "start, first", [(start, name) for start, names in START.items() for name in names]
)
def test_pair_of_operations_on_one_job(
    connect: Callable[..., Db], start: str, first: str, scope: str
) -> None:
    """Every operation as the second one, after a commit and after a rollback of the first."""
    limits = {"statement_timeout": "8s", "deadlock_timeout": "20ms"}
    one, two, watch = connect(**limits), connect(**limits), connect()
    with ThreadPoolExecutor(1) as pool:
        for second in START[start]:
            for ending in ("commit", "rollback"):
                job = _prepare(watch, start, scope)
                one.conn.execute("begin")
                first_won = OPERATIONS[first](one, job)
                future = pool.submit(OPERATIONS[second], two, job)
                overtaken = _is_done_before_it_is_blocked(watch, two.conn.info.backend_pid, future)
                one.conn.execute(ending)
                second_won = future.result(10)
                what = f"{first} {ending}, {second}"
                _check(watch, job, what)
                won = [(first, first_won and ending == "commit"), (second, second_won)]
                _check_state(watch, job, what, won[::-1] if overtaken else won)
                if start != "claimed":
                    continue
                # (The reaper passes over what is locked.)
                if ending == "rollback" and second in {*ENDS, *PUTS_BACK} - {"reap"}:
                    assert second_won, second
                if ending == "commit" and first_won and _exclude_each_other(first, second):
                    assert not second_won, second


def _exclude_each_other(first: str, second: str) -> bool:
    if first == second:
        return first == "reap"
    # To put a job back that was ended by the same token, other than well, is a repetition like any other.
    return (second in ENDS and first in {*ENDS, *PUTS_BACK}) or (
        first == "ack" and second in PUTS_BACK
    )


def _check(db: Db, job: Any, what: str) -> None:
    unfinished = db.one("select count(*) from pgqueue.job where id = %s", job.id)
    finished = db.one("select count(*) from pgqueue.archive where id = %s", job.id)
    assert unfinished + finished == (0 if "purge" in what and unfinished + finished == 0 else 1), (
        what
    )
    assert (
        db.one("select count(*) from pgqueue.job where attempt > max_attempts or attempt < 0") == 0
    ), what
    assert db.one(
        "select count(*) from pgqueue.job j where position is not null and not exists ("
        "select from pgqueue.lane l where l.queue = j.queue and l.priority = j.priority)"
    ) == 0, what  # fmt: skip


def _check_state(db: Db, job: Any, what: str, won: list[tuple[str, bool]]) -> None:
    """Whoever had its way last is what is stored; an ack that was told yes is in the archive."""
    if db.one("select count(*) from pgqueue.all_jobs where id <> %s", job.id):
        return  # with a second job of the key, some do not tell which one they meant
    told = [name for name, had_its_way in won if had_its_way and name in LEAVES]
    if told:
        assert db.state(job.id) in LEAVES[told[-1]], what


def test_job_is_claimed_once_though_it_changed_while_the_claim_looked(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Replaced, released and claimed again by many at once; the winner holds the stored token."""
    dbs = [connect() for _ in range(6)]
    for n in range(40):
        dbs[0].enqueue(dedupe_key=str(n))

    def churn(db: Db) -> int:
        claims = 0
        for turn in range(25):
            for job in db.claim(7, floors=[0] * 10):
                claims += 1
                assert db.end("release", job) == []
            db.enqueue(dedupe_key=str(turn), on_conflict="replace", priority=turn % 3)
        return claims

    assert sum(together(*(lambda db=db: churn(db) for db in dbs))) > 0
    assert (
        dbs[0].one("select count(*) from pgqueue.job where attempt = 0 and lease_until is null")
        == 40
    )
