"""The log of attempts: one line each, whatever becomes of it, and none of them with a payload."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from io import StringIO
from typing import Any

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from pgqueue import Cancel, Client, Handlers, Job, Retry, Skip, Snooze
from pgqueue.events import Outcome
from pgqueue.worker.attempts import LEVELS, AttemptLog
from pgqueue.worker.runner import Ending

from .helpers import SECOND, drain, make_job

FIELDS = {
    "job_id", "kind", "queue", "attempt", "max_attempts", "outcome", "duration", "wait", "worker",
    "error_class",
}  # fmt: skip
CANARY = "canary-4111"


def records(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """The lines of attempts."""
    return [r for r in caplog.records if r.name == "pgqueue.attempts"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_each_attempt_has_one_line_whatever_becomes_of_it(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Good ends are information, a failed attempt is a warning, a dead job an error."""
    caplog.set_level(logging.INFO, "pgqueue")
    returned: dict[str, Any] = {
        "succeeded": {"kept": 1},
        "skipped": Skip("why not"),
        "snoozed": Snooze(SECOND * 100),
        "cancelled": Cancel("why not"),
        "failed": Retry(SECOND * 100),
        "dead": ValueError("no luck"),
    }

    def body(job: Job[Any]) -> object:
        value = returned[job.payload["want"]]
        if isinstance(value, Exception):
            raise value
        return value

    async def async_body(job: Job[Any]) -> object:
        return body(job)

    handlers.register("a")(body if way == "sync" else async_body)
    ids = {
        client.enqueue(
            "a", {"want": want, "card": CANARY}, max_attempts=1 if want == "dead" else 5
        ).id: want
        for want in returned
        for _ in range(3)
    }
    drain(client, handlers)
    lines = records(caplog)
    assert Counter(r.job_id for r in lines) == dict.fromkeys(ids, 1)
    assert {r.job_id: r.outcome for r in lines} == ids
    for record in lines:
        assert record.levelno == LEVELS[Outcome(record.outcome)]
        assert vars(record).keys() >= FIELDS
        assert record.worker.endswith(f":{os.getpid()}")
        assert record.duration >= 0
        assert record.wait >= 0
        assert record.error_class == ("ValueError" if record.outcome == "dead" else None)
        assert CANARY not in repr(vars(record))
    assert {logging.getLevelName(LEVELS[o]) for o in Outcome} == {"INFO", "WARNING", "ERROR"}


def test_attempts_of_retries_are_lines_of_their_own(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with its number, and each with the wait since it was due."""
    caplog.set_level(logging.INFO, "pgqueue")
    left = [Retry(SECOND * 0), Retry(SECOND * 0), None]
    handlers.register("a")(lambda _: left.pop(0))
    client.enqueue("a", max_attempts=3)
    drain(client, handlers)
    lines = [(r.attempt, r.max_attempts, r.outcome) for r in records(caplog)]
    assert lines == [(1, 3, "failed"), (2, 3, "failed"), (3, 3, "succeeded")]


def test_good_endings_cost_nothing_at_the_default_level(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is even looked at for a line that nobody wants."""
    logger = logging.getLogger("pgqueue.attempts")
    assert not logger.isEnabledFor(logging.INFO)
    written: list[Outcome] = []
    monkeypatch.setattr(AttemptLog, "write", lambda _, __, outcome: written.append(outcome))
    handlers.register("a")(lambda job: Skip() if job.payload else None)
    client.enqueue_many([("a", n % 10 == 0) for n in range(50)])
    drain(client, handlers)
    assert written == [Outcome.SKIPPED] * 5


def line(handler: logging.Handler, error: BaseException | None = None) -> str:
    """What `handler`, with a stream in memory, makes of one attempt."""
    stream = StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    logger = logging.getLogger("pgqueue.attempts")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        outcome = Outcome.SUCCEEDED if error is None else Outcome.FAILED
        ending = Ending(make_job(id=7, kind="email.send"), outcome, error=error, duration=0.25)
        AttemptLog(lambda _, text: text, "web-1:42").write(ending, outcome)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    return stream.getvalue().strip()


def test_plain_line_says_what_matters() -> None:
    """Where nobody formats the fields, the text has them."""
    assert line(logging.StreamHandler()) == (
        "job 7 (email.send) attempt 1 of 20: succeeded in 0.250s"
    )
    assert line(logging.StreamHandler(), ValueError("no luck")) == (
        "job 7 (email.send) attempt 1 of 20: failed in 0.250s: ValueError: no luck"
    )


def test_python_json_logger_takes_the_fields_up() -> None:
    """As numbers and texts, without a word of configuration."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    written = json.loads(line(handler, ValueError("no luck")))
    assert written == {
        "message": "job 7 (email.send) attempt 1 of 20: failed in 0.250s: ValueError: no luck",
        "job_id": 7, "kind": "email.send", "queue": "default", "attempt": 1, "max_attempts": 20,
        "outcome": "failed", "duration": 0.25, "wait": 0.0, "worker": "web-1:42",
        "error_class": "ValueError",
    }  # fmt: skip


def test_structlog_takes_the_fields_up() -> None:
    """By its ExtraAdder, as it does for any library's records."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    written = json.loads(line(handler))
    assert written.keys() >= FIELDS | {"event", "level"}
    assert (written["level"], written["outcome"], written["duration"]) == (
        "info",
        "succeeded",
        0.25,
    )
