"""Each role against each function: what it may do, and that the rest is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pgqueue import Client, PermissionDenied

from .roles import CALLS, CRON, PUBLIC, Roles, made, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgqueue.testing.databases import Databases

CANARY = "canary-4e1f"
OWNERS = {"grant_access", "isolate_tenants", "bind_tenant"}
PRODUCERS = {"clock", "enqueue", "enqueue_many"}
ALLOWED = {
    "owner": set(CALLS),
    "worker": set(CALLS) - OWNERS - CRON,
    "producer": PRODUCERS,
    "viewer": {"clock", "next_slots", "poke_failures", "stats", "vitals"},
    "acme": PRODUCERS
    | {"cancel", "cancel_ref", "delete", "edit", "purge", "redrive", "retry", "stats"}
    | {"next_slots", "run_schedule", "schedule", "sync_schedules", "unschedule"},
    "migrator": set(),
    "nobody": set(),
}
# In the language of whoever has the schema's tables before them.
BEYOND = {
    "read payloads": "select payload from pgqueue.job",
    "read metadata": "select metadata from pgqueue.job",
    "read histories": "select history from pgqueue.job",
    "read the archive": "select * from pgqueue.archive",
    "read a part of it": "select * from pgqueue.archive_dead_default",
    "read the view": "select * from pgqueue.all_jobs",
    "return a payload": "update pgqueue.job set priority = 5 returning payload",
    "copy a payload": "update pgqueue.job set ref = payload::text",
    "filter by payload": "update pgqueue.job set priority = 5 where payload::text like '%x%'",
    "hand a row on": "insert into pgqueue.job select * from pgqueue.job",
    "copy out": "copy pgqueue.job to stdout",
    "read schedules": "select * from pgqueue.schedule",
    "read their runs": "select * from pgqueue.schedule_run",
    "move a slot": "update pgqueue.schedule set next_run_at = now()",
    "give a schedule away": "update pgqueue.schedule set tenant = 'globex'",
    "forge a schedule's own": "insert into pgqueue.schedule (name, kind, every, next_run_at) values ('x', 'k', '1 h', now())",
    "delete jobs": "delete from pgqueue.job",
    "read the audit log": "select * from pgqueue.audit",
    "take back what was done": "delete from pgqueue.audit",
    "say that another did it": "update pgqueue.audit set actor = 'x'",
    "read secrets": "select * from pgqueue.secret",
    "lock a table": "lock table pgqueue.job in access exclusive mode",
    "take tokens": "update pgqueue.job set token = 1",
    "hide a lane": "insert into pgqueue.lane (queue, priority, head, floor) values ('q', 5, 1, 9e15)",
    "change settings": "update pgqueue.setting set retention = '0'",
    "wind a sequence": "select setval('pgqueue.job_id_seq', 1)",
    "add a table": "create table pgqueue.x ()",
    "add a trigger": "create trigger x before insert on pgqueue.job for each row execute function suppress_redundant_updates_trigger()",
    "replace a function": "create or replace function pgqueue.clock() returns timestamptz language sql as 'select now()'",
    "drop a partition": "drop table pgqueue.archive_done_default",
    "rotate partitions": "select pgqueue._partitions()",
    "forge a policy": "create policy mine on pgqueue.job using (true)",
    "turn row security off": "alter table pgqueue.job disable row level security",
}  # fmt: skip
BEYOND_OF = {
    "producer": set(BEYOND),
    "nobody": set(BEYOND),
    "migrator": set(BEYOND),
    "worker": {"change settings", "wind a sequence", "add a table", "add a trigger", "replace a function",
               "drop a partition", "forge a policy", "turn row security off", "take back what was done",
               "say that another did it"},
    "viewer": {name for name in BEYOND if not name.startswith(("read", "copy out"))},
    "acme": {"take tokens", "hide a lane", "change settings", "wind a sequence", "add a table",
             "add a trigger", "replace a function", "drop a partition", "rotate partitions", "forge a policy",
             "turn row security off", "read a part of it", "move a slot", "give a schedule away",
             "forge a schedule's own", "take back what was done", "say that another did it"},
}  # fmt: skip


@pytest.fixture(scope="module")
def roles(_pgqueue_databases: Databases) -> Iterator[Roles]:
    """One set for the module; what tests do is undone."""
    with made(_pgqueue_databases) as roles:
        with roles.as_owner() as db:
            db.call("isolate_tenants")
        roles.grant("acme", "tenant")
        yield roles


def test_every_public_function_is_in_the_table(roles: Roles) -> None:
    """A new one fails here until somebody has decided who may call it."""
    with roles.as_owner() as db:
        assert {row[0] for row in db.rows(PUBLIC)} == set(CALLS)


@pytest.mark.parametrize("role", ALLOWED)
def test_role_calls_its_functions_and_no_others(roles: Roles, role: str) -> None:
    """All others end with 42501, and none of the allowed does."""
    with roles.as_owner() if role == "owner" else roles.as_(role, pgqueue__tenant="acme") as db:
        allowed = {
            name for name, call in CALLS.items() if not refused(db, f"select * from pgqueue.{call}")
        }
    assert allowed == ALLOWED[role]


@pytest.mark.parametrize("role", BEYOND_OF)
def test_role_does_nothing_around_the_functions(roles: Roles, role: str) -> None:
    """With statements of its own, on the tables beneath."""
    with roles.as_(role, pgqueue__tenant="acme") as db:
        assert {name for name in BEYOND_OF[role] if not refused(db, BEYOND[name])} == set()


def test_owner_cannot_log_in(roles: Roles) -> None:
    """And the migrator has no right before it became the owner."""
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(roles.login("owner"))
    with Client(roles.login("migrator")) as client, pytest.raises(PermissionDenied):
        client.stats()


@pytest.mark.parametrize(
    "statement",
    [
        "update pgqueue.job set priority = 99",
        "update pgqueue.job set run_at = null",
        "update pgqueue.job set max_attempts = 0 where id = 1",
        "update pgqueue.job set queue = 'no name'",
        "update pgqueue.job set dedupe_until = 'never'",
        "select pgqueue.enqueue('k', '{}', dedupe_key => 'held', on_conflict => 'raise')",
        "insert into pgqueue.job (id, kind, queue, payload, max_attempts) values (1, 'k', 'q', '{}', 1)",
        "select most_common_vals from pg_stats where schemaname = 'pgqueue' and attname = 'payload'",
    ],
)
def test_producer_reads_no_payload_of_another_by_way_of_errors(
    roles: Roles, statement: str
) -> None:
    """What a refused row would show, and what statistics hold of it."""
    with roles.as_owner() as db:
        db.rows("delete from pgqueue.job")
        job_id = db.enqueue(
            payload=Jsonb({"card": CANARY}), dedupe_key="held", metadata=Jsonb({"m": CANARY})
        )
        db.rows("update pgqueue.job set id = 1 where id = %s", job_id)
        db.rows("analyze pgqueue.job")
    with roles.as_("producer", pgqueue__tenant="acme") as db, db.transaction():
        shown = ""
        try:
            shown = str(db.rows(statement))
        except psycopg.Error as error:
            shown = f"{error} {error.diag.message_detail} {error.diag.context}"
        assert CANARY not in shown


def test_functions_with_the_owners_rights_are_not_everybodys(roles: Roles) -> None:
    """Their search_path is pinned, with temporary objects last, and PUBLIC may not run them."""
    with roles.as_owner() as db:
        rows = db.rows(
            "select p.oid::regprocedure::text as name, p.proconfig as settings, "
            "has_function_privilege('public', p.oid, 'execute') as open "
            "from pg_proc p where p.pronamespace = 'pgqueue'::regnamespace and p.prosecdef"
        )
    assert [row.name for row in rows] == ["pgqueue._partitions()"]
    for row in rows:
        assert "search_path=pg_catalog, pg_temp" in row.settings
        assert not row.open


WATCHING = (
    "select pgqueue._alerts_turn('1 s')",
    "select pgqueue._count_attempts('{a}', '{1}', '{1}', '{0}')",
    "select * from pgqueue._attempt_counts('5 min')",
    """select * from pgqueue._note_alerts('[{"rule": "r", "key": "k", "summary": "s", "cool_down": "1 h",
        "quiet": "1 h"}]', '{r}', '1 min')""",
    "select pgqueue._alert_told('r', 'k', 1, true)",
)


@pytest.mark.parametrize(
    "role, may",
    [
        ("worker", [True] * 5),
        ("viewer", [False, False, True, False, False]),
        ("producer", [False] * 5),
    ],
)
def test_who_may_watch(roles: Roles, role: str, may: list[bool]) -> None:
    """A worker's role; a viewer reads how attempts ended, a producer does not even that."""
    with roles.as_(role) as db:
        assert [not refused(db, statement) for statement in WATCHING] == may
