"""What each role of `grant_access` may do, and what it may not."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgqueue
from pgqueue import Client, NewJob, PermissionDenied

Sql = Callable[..., list[tuple[Any, ...]]]

PRODUCE: dict[str, Callable[[Client], object]] = {
    "enqueue": lambda c: c.enqueue("a", delay=timedelta(0), tags=["t"], metadata={}, ref="r"),
    "enqueue with a key": lambda c: c.enqueue("a", dedupe_key="x"),
    "replace": lambda c: c.enqueue("a", dedupe_key="held", on_conflict="replace", queue="q2"),
    "enqueue few": lambda c: c.enqueue_many([("a", {}), NewJob("a", dedupe_key="held")]),
    "enqueue many": lambda c: c.enqueue_many([("a", {})] * 300, queue="new"),
    "see the version": lambda c: c.schema_state().check(),
    "migrate what is current": lambda c: c.migrate(),
}
VIEW: dict[str, Callable[[Client], object]] = {
    "get": lambda c: c.get(1),
    "list": lambda c: c.list(),
    "stats": lambda c: c.stats(),
    "see the version": lambda c: c.schema_state().check(),
    "migrate what is current": lambda c: c.migrate(),
}
WORK: dict[str, Callable[[Client], object]] = {
    "claim and ack": lambda c: c.ack(c.claim(limit=1, worker="w"), result=1),
    "claim and fail": lambda c: c.fail(c.claim(limit=1), "why"),
    "claim and skip": lambda c: c.skip(c.claim(limit=1), "why"),
    "claim and snooze": lambda c: c.snooze(c.claim(limit=1), timedelta(0)),
    "claim and release": lambda c: c.release(c.claim(limit=1)),
    "claim and extend": lambda c: c.extend(c.claim(limit=1)),
    "cancel": lambda c: c.cancel(1),
    "cancel by ref": lambda c: c.cancel_ref("r"),
    "retry": lambda c: c.retry([2, 3]),
    "redrive": lambda c: c.redrive(),
    "purge": lambda c: c.purge("default"),
    "pause": lambda c: c.pause("default"),
    "resume": lambda c: c.resume("default"),
    "maintain": lambda c: c.maintain(),
    "sleep": lambda c: c._run(c.statements.sleep(["default"], "w", timedelta(1), ["a"])),
    "wake": lambda c: c._run(c.statements.wake("w")),
}
EVERYTHING = PRODUCE | VIEW | WORK
ALLOWED = {"producer": PRODUCE, "viewer": VIEW, "worker": EVERYTHING, "nobody": {}}


@pytest.fixture(scope="module")
def roles(pgqueue_server_dsn: str) -> Iterator[dict[str, str]]:
    """A login role for each kind of access, gone afterwards."""
    names = {access: f"pgqueue_test_{access}_{secrets.token_hex(4)}" for access in ALLOWED}
    with psycopg.connect(pgqueue_server_dsn, autocommit=True) as conn:
        for name in names.values():
            conn.execute(f"create role {name} login".encode())
        yield names
        for name in names.values():
            conn.execute(f"drop role {name}".encode())


@pytest.fixture(params=ALLOWED)
def access(request: pytest.FixtureRequest) -> str:
    """Each kind of access."""
    return str(request.param)


@pytest.fixture
def restricted(
    pgqueue_client: Client, sql: Sql, roles: dict[str, str], access: str, make_client: Any
) -> Iterator[Client]:
    """A client with one kind of access to a queue where something has happened."""
    pgqueue_client.enqueue_many([("a", {})] * 20)
    pgqueue_client.enqueue("a", dedupe_key="held", priority=9)
    pgqueue_client.enqueue("dies", max_attempts=1)
    pgqueue_client.fail(pgqueue_client.claim(kinds=["dies"]))
    if access != "nobody":
        sql("select pgqueue.grant_access(%s, %s)", roles[access], access)
    yield make_client(make_conninfo(pgqueue_client.dsn, user=roles[access]))
    sql(f"drop owned by {roles[access]}")


@pytest.mark.direct("its users are not in the pooler's configuration")
def test_role_may_do_its_work_and_nothing_else(restricted: Client, access: str) -> None:
    """Everything else is refused, and the message names the grant that would allow it."""
    if access != "worker":
        for name, operation in EVERYTHING.items():
            if name not in ALLOWED[access]:
                with pytest.raises(PermissionDenied, match=r'"pgqueue"\.grant_access') as caught:
                    pytest.fail(f"{access} may {name}: {operation(restricted)}")
                assert isinstance(caught.value, psycopg.errors.InsufficientPrivilege)
    for operation in ALLOWED[access].values():
        operation(restricted)


@pytest.mark.direct("its users are not in the pooler's configuration")
def test_only_the_owner_grants_access(restricted: Client, access: str) -> None:
    """No role can give away more than it has."""
    granting = pgqueue.statements.Statement(
        "select pgqueue.grant_access('public', 'worker')", (), list
    )
    with pytest.raises(PermissionDenied):
        restricted._run(granting)
    assert access in ALLOWED


def test_access_of_an_unknown_kind_is_refused(client: Client) -> None:
    """The message lists those that there are."""
    granting = pgqueue.statements.Statement(
        "select pgqueue.grant_access('public', 'god')", (), list
    )
    with pytest.raises(pgqueue.InvalidJob, match="producer, worker or viewer"):
        client._run(granting)
