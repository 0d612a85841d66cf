"""Fixtures of the alerts' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgqueue import Client

from .helpers import Given, Hook, Told


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A server of webhooks."""
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A client of this test's database."""
    return pgqueue_client


@pytest.fixture
def told() -> Told:
    """A sender that keeps what it is told."""
    return Told()


@pytest.fixture
def given() -> Iterator[type[Given]]:
    """The class of it: its `alarms` are found by all its rules."""
    yield Given
    Given.alarms = ()
