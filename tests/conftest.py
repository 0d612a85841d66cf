"""All tests have the fixtures of pgqueue's own pytest plugin, and pytest's bench for plugins.

With `--pooler` each test's database is reached through PgBouncer in transaction mode; what a test
looks at behind a client's back it still sees directly.
`--hypothesis-profile=soak` is for a night: 50,000 steps of the state machine in tests/sql.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from tests.faults.harness.pooler import MISSING, Pooler, pooler, program

pytest_plugins = ["pgqueue.testing.plugin", "pytester", "tests.hosted.fixtures"]

settings.register_profile("soak", max_examples=1_000, stateful_step_count=50, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --pooler."""
    parser.addoption(
        "--pooler", action="store_true", help="run the tests through PgBouncer in transaction mode"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what no pooler in transaction mode lets through."""
    if config.getoption("--pooler"):
        for item in items:
            for mark in item.iter_markers("direct"):
                item.add_marker(pytest.mark.skip(reason=f"through a pooler: {mark.args[0]}"))


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Applications set it up for their process, which here is that of other tests, too."""
    loggers = [logging.getLogger(name) for name in ("pgqueue", "pgqueue.attempts")]
    before = [(logger.level, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)  # not by assignment: children remember what they inherit
        logger.handlers = handlers


@pytest.fixture(scope="session")
def pgbouncer(request: pytest.FixtureRequest) -> Iterator[Pooler]:
    """A PgBouncer before the tests' server."""
    if program() is None:
        pytest.skip(MISSING)
    with pooler(request.getfixturevalue("pgqueue_server_dsn")) as running:
        yield running


@pytest.fixture(scope="session")
def pooled(request: pytest.FixtureRequest) -> Pooler | None:
    """The pooler that is in between; None without --pooler."""
    if not request.config.getoption("--pooler"):
        return None
    found: Pooler = request.getfixturevalue("pgbouncer")
    return found


@pytest.fixture(scope="session")
def through(pooled: Pooler | None) -> Callable[[str], str]:
    """Turns the DSN of a database into the one that tests are to use."""
    return str if pooled is None else pooled.through


@pytest.fixture(scope="session")
def direct(pooled: Pooler | None) -> Callable[[str], str]:
    """Turns a test's DSN into one that leads straight to the server."""
    return str if pooled is None else pooled.direct


@pytest.fixture
def pgqueue_dsn(pgqueue_dsn: str, through: Callable[[str], str]) -> str:
    """The DSN of a new database with pgqueue installed, for this test alone."""
    return through(pgqueue_dsn)
