"""`Client` and `AsyncClient` are the same but for `await`, and so are what they lead to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pgqueue import AsyncClient, Client
from pgqueue.operations import AsyncOperations, Operations
from pgqueue.schedules import AsyncSchedules, Schedules

PAIRS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
OTHERWISE = {"__init__", "is_cancelled"}
"""Not awaited in either."""


def methods(kind: type) -> dict[str, Callable[..., Any]]:
    """What the class defines itself."""
    return {
        name: value
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and (not name.startswith("_") or name in PAIRS)
    }


def test_both_have_the_same_operations() -> None:
    """Neither has one that the other lacks; the same holds for properties."""
    there = {PAIRS.get(name, name) for name in methods(Client)}
    here = {name for name in vars(AsyncClient) if name in there or name in methods(AsyncClient)}
    assert here == there
    properties = [
        {name for name, value in vars(kind).items() if isinstance(value, property)}
        for kind in (Client, AsyncClient)
    ]
    assert properties[0] == properties[1] != set()


@pytest.mark.parametrize("name", ["__init__", *methods(Client)])
def test_signatures_are_the_same(name: str) -> None:
    """Parameters with their kinds, defaults and annotations, and what is returned."""
    sync = vars(Client)[name]
    asyn = vars(AsyncClient)[PAIRS.get(name, name)]
    assert inspect.iscoroutinefunction(asyn) == (name not in OTHERWISE)
    expected = str(inspect.signature(sync)).replace("ConnectionPool", "AsyncConnectionPool")
    assert str(inspect.signature(asyn)) == expected


@pytest.mark.parametrize("sync, asyn", [(Schedules, AsyncSchedules), (Operations, AsyncOperations)])
def test_both_lead_to_the_same_operations(sync: type, asyn: type) -> None:
    """With the same signatures; neither has one that the other lacks."""
    here, there = methods(sync), methods(asyn)
    assert set(here) == set(there)
    for name, method in here.items():
        assert inspect.iscoroutinefunction(there[name]), name
        assert inspect.signature(method) == inspect.signature(there[name]), name


@pytest.mark.parametrize(
    "kind", [Client, AsyncClient, Schedules, AsyncSchedules, Operations, AsyncOperations]
)
def test_every_operation_is_documented(kind: type) -> None:
    """Context managers aside, which do what they always do."""
    for name, method in methods(kind).items():
        assert name in PAIRS or method.__doc__, name
