"""A queue beside the double of pg_net."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.hosted.database import Sql
from tests.hosted.net_double import Sender, Site, site

from pgqueue.pg_cron import Poke


@pytest.fixture
def sql(pgqueue_dsn: str) -> Iterator[Sql]:
    """The test's database, with the double of pg_net in it."""
    made = Sql(pgqueue_dsn)
    made.double("net")
    yield made
    made.conn.close()


@pytest.fixture
def served() -> Iterator[Site]:
    """An endpoint that is called."""
    with site() as found:
        yield found


@pytest.fixture
def sender(sql: Sql) -> Sender:
    """What sends requests."""
    return Sender(sql.dsn)


@pytest.fixture
def put(sql: Sql, served: Site) -> Callable[..., None]:
    """Stores the settings of an endpoint; `served` is its URL."""
    from pgqueue.pg_cron.script import put_endpoint  # noqa: PLC0415

    def put(name: str = "media", **given: Any) -> None:
        sql(put_endpoint("pgqueue", Poke(name=name, **{"url": served.url, **given})))

    return put


@pytest.fixture
def role(sql: Sql) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"pgqueue_cron_{psycopg.conninfo.conninfo_to_dict(sql.dsn)['dbname']}"
    sql(f"create role {name} login")
    yield name
    sql(f"drop owned by {name}")
    sql(f"drop role {name}")


@pytest.fixture
def as_role(sql: Sql, role: str) -> Iterator[Sql]:
    """A session of that role."""
    made = Sql(make_conninfo(sql.dsn, user=role))
    yield made
    made.conn.close()
