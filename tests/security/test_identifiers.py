"""Names that would be SQL if they were pasted: each works throughout, or is refused at once."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgqueue import (
    AsyncClient,
    Client,
    ConfigurationError,
    EncryptedCodec,
    Handlers,
    InvalidJob,
    Job,
    NewJob,
    Worker,
    reencrypt,
)
from pgqueue.testing import travel

NAMES = ["a;drop--", "A(b),c", "/*x*/", "@extschema@", "@extschema:name@", "x).y=?:z&[1]|!#^~`<>"]
REFUSED = [
    'a"b; drop',
    "a'); drop schema public; --",
    "a$$b",
    "a%sb",
    "a\\b",
    "a b",
    "pg_temp",
    "a\0b",
    "{}",
]


@pytest.mark.parametrize("name", REFUSED)
def test_schema_that_could_not_be_quoted_everywhere_is_refused(name: str) -> None:
    """Functions have it in strings, in quotes and in dollars: none of those may end there."""
    makers: list[Callable[[], object]] = [
        lambda: Client("host=h", schema=name),
        lambda: AsyncClient("host=h", schema=name),
        lambda: Worker("host=h", _handlers(threading.Event()), schema=name),
    ]
    for made in makers:
        with pytest.raises(ConfigurationError, match="cannot be pgqueue's schema"):
            made()


def _handlers(ran: threading.Event) -> Handlers:
    handlers = Handlers()

    @handlers.register("k")
    def run(job: Job[Any]) -> None:
        del job
        ran.set()

    return handlers


@pytest.mark.parametrize("name", NAMES)
def test_odd_schema_works_throughout(pgqueue_dsn: str, name: str) -> None:
    """Migrate, enqueue in every way, claim, end, look, operate, upkeep, tenants, roles, keys."""
    with Client(pgqueue_dsn, schema=name) as client:
        client.migrate()
        client.schema_state().check()
        job = client.enqueue("k", dedupe_key="x", ref="r").id
        client.enqueue_many([("k", {})] * 300)
        client.enqueue_many([NewJob("k", dedupe_key="y"), NewJob("k", delay=timedelta(hours=1))])
        travel(pgqueue_dsn, timedelta(hours=2), schema=name)
        assert client.maintain().promoted == 1
        claimed = client.claim(limit=400)
        client.extend(claimed)
        client.fail(claimed[:1], "why")
        client.ack(claimed[1:])
        assert client.retry([job]) == [job]
        client.cancel(job)
        client.cancel_ref("r")
        client.pause("default")
        client.resume("default")
        client.redrive()
        client.purge("default")
        assert len(client.list(limit=400)) == 303
        assert client.stats()
        assert reencrypt(client, EncryptedCodec([EncryptedCodec.new_key()])) == 0
        with client.driver.connection() as conn:
            for call in ("isolate_tenants()", "_partitions()", "isolate_tenants()"):
                conn.execute(f"select {client.statements.quoted}.{call}".encode())
            others = conn.execute(
                "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> all(%s)",
                (["public", "information_schema", "pgqueue", name],),
            ).fetchall()
        assert others == []

    async def aio() -> int:
        async with AsyncClient(pgqueue_dsn, schema=name) as client:
            return (await client.enqueue("other")).id

    assert asyncio.run(aio()) > job


@pytest.mark.parametrize("name", NAMES)
def test_doorbell_of_an_odd_schema_rings(pgqueue_dsn: str, name: str) -> None:
    """LISTEN and NOTIFY mean the same channel: the worker polls far too seldom to find the job."""
    ran = threading.Event()
    with Client(pgqueue_dsn, schema=name) as client:
        client.migrate()
        worker = Worker(client, _handlers(ran), poll_interval=timedelta(minutes=5))
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        try:
            with client.driver.connection() as conn:
                asleep = f"select 1 from {client.statements.quoted}.sleeper".encode()
                for _ in range(1500):
                    if conn.execute(asleep).fetchone():
                        break
                    threading.Event().wait(0.01)
            client.enqueue("k")
            assert ran.wait(15)
        finally:
            worker.stop()
            thread.join(15)
        assert not thread.is_alive()


@pytest.mark.parametrize("name", ["a b", 'a"; drop', "a'--", "", "ä", "a\nb", "x" * 129, "a*"])
def test_odd_queue_or_kind_is_refused(pgqueue_client: Client, name: str) -> None:
    """By the client, and by the table for those who come around it."""
    uses: list[Callable[[], object]] = [
        lambda: pgqueue_client.enqueue(name),
        lambda: pgqueue_client.enqueue("k", queue=name),
        lambda: pgqueue_client.claim(name),
        lambda: pgqueue_client.purge(name),
        lambda: pgqueue_client.pause(name),
        lambda: Handlers().register(name),
        lambda: pgqueue_client.enqueue_many([(name, {})]),
    ]
    for wrong in uses:
        with pytest.raises(InvalidJob, match="is no name"):
            wrong()
    with pgqueue_client.driver.connect() as conn:
        for given in ({"kind": name}, {"kind": "k", "queue": name}):
            call = ", ".join(f"{key} => %s" for key in given)
            with pytest.raises(psycopg.errors.CheckViolation), conn.transaction():
                conn.execute(f"select pgqueue.enqueue({call})".encode(), list(given.values()))


def test_odd_roles_and_tenants_are_names(pgqueue_dsn: str) -> None:
    """Grants and policies quote them: nothing is dropped, and the policy means that very tenant."""
    role = f"pgqueue_test_{secrets.token_hex(3)} a\"b'; drop schema pgqueue; --%s"
    tenant = "x'); drop schema pgqueue cascade; --"
    named = sql.Identifier(role)
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("create role {}").format(named))
        try:
            conn.execute("select pgqueue.isolate_tenants()")
            for access in ("producer", "worker", "viewer", "tenant", "tenant_viewer"):
                conn.execute("select pgqueue.grant_access(%s, %s)", (role, access))
            conn.execute("select pgqueue.bind_tenant(%s, %s)", (role, tenant))
            stored = conn.execute(
                "select polroles[1]::regrole::text, pg_get_expr(polqual, polrelid) from pg_policy "
                "where polname like 'only_%%' and polrelid = 'pgqueue.job'::regclass", []
            ).fetchall()  # fmt: skip
            assert [row[0] for row in stored] == ['"' + role.replace('"', '""') + '"']
            assert "'x''); drop schema pgqueue cascade; --'" in stored[0][1]
        finally:
            conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(named))
