"""The tree of exceptions is as its docstring draws it."""

from __future__ import annotations

import pickle
import re
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import errors


def drawn() -> dict[str, str]:
    """Each class with its parent, from the docstring."""
    parents: dict[str, str] = {}
    above: list[str] = []
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        if match := re.match(r"    ([│ ]*)([├└]── )?([A-Z]\w+)(  |$)", line):
            depth = len(match[1]) // 4 + bool(match[2])
            above[depth:] = [match[3]]
            parents[match[3]] = above[depth - 1] if depth else "Exception"
    return parents


def test_tree_is_as_it_is_drawn() -> None:
    """Every class is in it, below its first base."""
    defined = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert drawn() == defined


@pytest.mark.parametrize(
    "name, also",
    [
        ("DatabaseUnavailable", psycopg.OperationalError),
        ("PermissionDenied", psycopg.errors.InsufficientPrivilege),
        ("InvalidJob", ValueError),
        ("PayloadTooLarge", ValueError),
        ("WaitTimeout", TimeoutError),
    ],
)
def test_errors_are_also_what_others_catch(name: str, also: type) -> None:
    """As the docstring says."""
    assert issubclass(getattr(errors, name), also)


EXAMPLES: list[Any] = [
    (errors.UnknownKind("b", ["c", "a"]), "no handler for kind 'b' (registered: a, c);"),
    (errors.UnknownKind("b"), "(registered: none)"),
    (errors.SchemaMissing("s"), "schema 's'"),
    (errors.JobNotFound(7), "no job 7"),
    (errors.LeaseLost(range(3)), "the lease of job 0, 1, 2 is lost"),
    (errors.LeaseLost(range(30)), "7, 8, 9 … is lost"),
    (errors.WaitTimeout(7, 0.25), "job 7 did not finish within 0.25 s"),
]


@pytest.mark.parametrize("error, told", EXAMPLES)
def test_messages_hold_their_facts(error: errors.PgqueueError, told: str) -> None:
    """They are attributes, too."""
    assert told in str(error)
    assert {"kind", "schema", "job_id", "job_ids"} & vars(error).keys()


def test_every_error_a_caller_catches_is_exported() -> None:
    """But for those that only group others, and the embedded server's."""
    grouping = {"DatabaseError", "JobError", "EmbeddedServerError"}
    assert set(drawn()) - grouping <= set(vars(pgqueue))


@pytest.mark.parametrize(
    "error",
    [
        *(error for error, _ in EXAMPLES),
        errors.InvalidJob("told"),
        errors.DatabaseUnavailable("told"),
        errors.PermissionDenied("told"),
    ],
)
def test_errors_can_be_pickled(error: errors.PgqueueError) -> None:
    """A process pool that cannot unpickle an error is broken by it."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
