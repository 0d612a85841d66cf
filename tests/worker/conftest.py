"""Fixtures of the worker's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgqueue import Client, Handlers
from pgqueue.testing.databases import Databases

from .helpers import Database, Process


@pytest.fixture(scope="session")
def shared_database(
    _pgqueue_databases: Databases, pgqueue_template: str
) -> Iterator[tuple[str, Database]]:
    """One database for the whole folder: a new one takes longer than most tests."""
    dsn = _pgqueue_databases.create(pgqueue_template)
    database = Database(dsn)
    yield dsn, database
    database.conn.close()


@pytest.fixture
def pgqueue_dsn(shared_database: tuple[str, Database], through: Callable[[str], str]) -> str:
    """The DSN of that database, emptied."""
    dsn, database = shared_database
    database.query(
        "with a as (delete from job), b as (delete from archive), c as (delete from lane), "
        "d as (delete from queue), e as (delete from worker) delete from sleeper"
    )
    return through(dsn)


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A client of this test's database."""
    return pgqueue_client


@pytest.fixture
def handlers() -> Handlers:
    """An empty registry."""
    return Handlers()


@pytest.fixture
def database(pgqueue_dsn: str, shared_database: tuple[str, Database]) -> Database:
    """The tables of that database."""
    del pgqueue_dsn
    return shared_database[1]


@pytest.fixture
def launch(tmp_path: Path, pgqueue_dsn: str) -> Iterator[Callable[[str], Process]]:
    """Starts scripts on this test's database; kills what is left of them."""
    with ExitStack() as stack:

        def start(script: str) -> Process:
            process = Process(tmp_path, pgqueue_dsn, script)
            stack.callback(process.kill)
            return process

        yield start
