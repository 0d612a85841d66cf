"""The pytest plugin: a migrated database of its own for each test that asks for one.

    def test_welcome_mail_is_queued(pgqueue_client):
        sign_up("ada@example.org", queue=pgqueue_client)
        assert_enqueued(pgqueue_client, "email.send", payload={"to": "ada@example.org"})

The server is that of the environment variable PGQUEUE_TEST_DSN, whose role must be allowed to
create databases; without it a throw-away server is started (extra `embedded`), one per process of
pytest-xdist. Databases that exist are never touched.

Override a fixture to change it: `pgqueue_schema` to have another schema, `pgqueue_template` to add
tables of your own to what each test gets. pytest loads this module in every project, so it imports
only what a fixture needs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgqueue.aclient import AsyncClient
    from pgqueue.client import Client
    from pgqueue.testing.databases import Databases

SERVER = "PGQUEUE_TEST_DSN"
MEMORY = "/dev/shm"  # noqa: S108 - the folder in it is made by mkdtemp
ENOUGH_MEMORY = 2**30


@pytest.fixture(scope="session")
def pgqueue_server_dsn() -> Iterator[str]:
    """The DSN of the server on which databases are made."""
    if dsn := os.environ.get(SERVER):
        yield dsn
        return
    from pgqueue import embedded  # noqa: PLC0415

    # Each test's database is a copy of some 8 MB: in memory it takes 20 ms, on a slow disk 500.
    with embedded.temporary(settings={"max_wal_size": "96MB"}, parent=_memory()) as server:
        yield server.dsn


def _memory() -> str | None:
    """The folder that Linux keeps in memory, if there is room for a server in it."""
    try:
        found = os.statvfs(MEMORY)
    except (OSError, AttributeError):
        return None
    return MEMORY if found.f_bavail * found.f_frsize > ENOUGH_MEMORY else None


@pytest.fixture(scope="session")
def pgqueue_schema() -> str:
    """The schema that holds pgqueue's tables."""
    return "pgqueue"


@pytest.fixture(scope="session")
def _pgqueue_databases(pgqueue_server_dsn: str) -> Iterator[Databases]:
    from pgqueue.testing.databases import Databases  # noqa: PLC0415

    with Databases(pgqueue_server_dsn) as databases:
        yield databases


@pytest.fixture(scope="session")
def pgqueue_template(_pgqueue_databases: Databases, pgqueue_schema: str) -> str:
    """The DSN of the database that each test gets a copy of; nobody may be connected to it then."""
    return _pgqueue_databases.create_template(pgqueue_schema)


@pytest.fixture
def pgqueue_dsn(_pgqueue_databases: Databases, pgqueue_template: str) -> Iterator[str]:
    """The DSN of a new database with pgqueue installed, for this test alone."""
    dsn = _pgqueue_databases.create(pgqueue_template)
    yield dsn
    _pgqueue_databases.discard(dsn)


@pytest.fixture
def pgqueue_client(pgqueue_dsn: str, pgqueue_schema: str) -> Iterator[Client]:
    """A client of that database."""
    from pgqueue.client import Client  # noqa: PLC0415

    with Client(pgqueue_dsn, schema=pgqueue_schema) as client:
        yield client


@pytest.fixture
def pgqueue_async_client(pgqueue_dsn: str, pgqueue_schema: str) -> Iterator[AsyncClient]:
    """An async client of that database, which connects in the event loop that uses it."""
    from pgqueue.aclient import AsyncClient  # noqa: PLC0415

    client = AsyncClient(pgqueue_dsn, schema=pgqueue_schema)
    yield client
    client.driver.abandon()
