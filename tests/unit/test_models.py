"""The values that pgqueue takes and gives."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from typing import Any

import attrs
import pytest

import pgqueue
from pgqueue import Job, JobState, NewJob, models

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


def job(job_id: int = 1, token: int = 2) -> Job[Any]:
    """A claimed job of no client."""
    return Job(job_id, token, "q", "a", {}, 5, 1, 20, NOW, NOW, NOW, NOW, 1, None, None, None, None)


def test_jobs_are_the_same_if_they_are_the_same_claim() -> None:
    """Whatever else they carry."""
    assert job() == attrs.evolve(job(), payload={"n": 1})
    assert hash(job()) == hash(attrs.evolve(job(), payload={"n": 1}))
    assert job() != job(token=3)
    assert job() != job(job_id=2)
    assert job() != 1
    assert len({job(), job(), job(token=3)}) == 2


def test_values_are_frozen() -> None:
    """Nobody changes a job under another's hands."""
    for value in (job(), NewJob("a"), pgqueue.EnqueueResult(1, duplicate=False)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.id = 7  # type: ignore[misc,union-attr] # that is the point


def test_values_can_be_pickled() -> None:
    """For process pools, and for caches."""
    for value in (job(), NewJob("a", {"n": 1}), pgqueue.QueueStats("q", 1, 2, 3, 4, None, None)):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own


def test_new_job_without_payload_has_an_empty_object() -> None:
    """However it is left out."""
    assert NewJob("a").payload == NewJob("a", None).payload == {}


def test_finished_states() -> None:
    """Four of seven; a state is its name."""
    finished = {state for state in JobState if state.finished}
    assert finished == {"succeeded", "dead", "cancelled", "skipped"}
    assert [str(state) for state in JobState][:3] == ["scheduled", "ready", "claimed"]


def test_error_entry_has_class_message_and_traceback() -> None:
    """The traceback's end, where the cause stands."""

    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise KeyError("the cause")

    with pytest.raises(KeyError) as caught:
        deep(200)
    entry = models.error_entry(caught.value)
    assert (entry["class"], entry["message"]) == ("KeyError", "'the cause'")
    assert len(entry["traceback"]) <= 4000
    assert entry["traceback"].endswith("KeyError: 'the cause'\n")
    assert models.error_entry("told") == {"message": "told"}
