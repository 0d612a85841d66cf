"""Fixtures of the tests of metrics."""

from __future__ import annotations

import pytest

from pgqueue import Client, Handlers


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A client of this test's database."""
    return pgqueue_client


@pytest.fixture
def handlers() -> Handlers:
    """An empty registry."""
    return Handlers()
