"""A database whose owner cannot log in, with a role for each kind of access, and a call of every function."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgqueue import Client
from pgqueue.testing.databases import Databases

from .conftest import Db

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("owner", "migrator", "producer", "worker", "viewer", "acme", "globex", "nobody")
TENANTS = ("acme", "globex")

# With arguments that are valid whatever is stored, and types that no search_path can bend.
CALLS = {
    "ack": "ack('{-1}', '{1}')",
    "bind_tenant": "bind_tenant(current_user, 'x')",
    "cancel": "cancel('{-1}')",
    "cancel_claimed": "cancel_claimed('{-1}', '{1}')",
    "cancel_ref": "cancel_ref('r')",
    "claim": "claim(kinds => '{none}')",
    "claim_one": "enqueue('k') e (job_id, known), pgqueue.claim_one(e.job_id)",
    "clock": "clock()",
    "delete": "delete('{-1}')",
    "edit": "enqueue('k') e (job_id, known), pgqueue.edit(e.job_id, priority => 1)",
    "enqueue": "enqueue('k', dedupe_key => 'key')",
    "enqueue_many": """enqueue_many('[{"kind": "k"}, {"kind": "k", "dedupe_key": "key", "on_conflict": "replace"}]')""",
    "extend": "extend('{-1}', '{1}', '1 s')",
    "fail": "fail('{-1}', '{1}')",
    "grant_access": "grant_access(current_user, 'worker')",
    "isolate_tenants": "isolate_tenants()",
    "maintain": "maintain()",
    "next_slots": "next_slots('none')",
    "pause": "pause('elsewhere')",
    "poke": "poke('media')",
    "poke_failures": "poke_failures()",
    "promote": "promote()",
    "purge": "purge('elsewhere')",
    "put_secret": "put_secret('s', 'v')",
    "reap": "reap()",
    "redrive": "redrive('elsewhere')",
    "remove_secret": "remove_secret('none')",
    "release": "release('{-1}', '{1}')",
    "resume": "resume('elsewhere')",
    "retry": "retry('{-1}')",
    "run_schedule": "schedule('s', 'k', every => '1 h'), pgqueue.run_schedule('s')",
    "schedule": "schedule('s', 'k', cron => '*/5 * * * *', window_start => '9:00', window_end => '17:00')",
    "skip": "skip('{-1}', '{1}')",
    "sleep": "sleep('{elsewhere}', 'w', '1 s')",
    "snooze": "snooze('{-1}', '{1}', '{1 s}')",
    "stats": "stats()",
    "sync_schedules": """sync_schedules('[{"name": "t", "kind": "k", "every": "1 h"}]', 'app')""",
    "tick": "tick()",
    "unschedule": "unschedule('none')",
    "vitals": "vitals()",
    "wake": "wake('w')",
}  # fmt: skip
CRON = {"poke", "put_secret", "remove_secret"}
"""For the role of pg_cron alone."""
NET = Path(__file__).parents[1] / "hosted" / "net_double.sql"
PUBLIC = (
    "select distinct proname from pg_catalog.pg_proc "
    "where pronamespace = 'pgqueue'::regnamespace and proname !~ '^_' and prokind = 'f'"
)


@attrs.frozen
class Roles:
    """Their names are random, because a server's roles are everybody's."""

    dsn: str
    names: dict[str, str]

    def login(self, role: str, /, **options: str) -> str:
        """The DSN of a role; `options` are settings of its sessions."""
        given = " ".join(f"-c {name.replace('__', '.')}={value}" for name, value in options.items())
        return make_conninfo(self.dsn, user=self.names[role], options=given)

    @contextmanager
    def as_(self, role: str, /, **options: str) -> Iterator[Db]:
        """A session of a role that may log in."""
        db = Db(self.login(role, **options), prepare=True)
        try:
            yield db
        finally:
            db.conn.close()

    @contextmanager
    def as_owner(self) -> Iterator[Db]:
        """A session of the migrator, who became the owner."""
        with self.as_("migrator", role=self.names["owner"]) as db:
            yield db

    def grant(self, role: str, access: str) -> None:
        """Has the owner grant access."""
        with self.as_owner() as db:
            db.call("grant_access", self.names[role], access)


def _quoted(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))


@contextmanager
def made(databases: Databases) -> Iterator[Roles]:
    """Makes the database and the roles; drops them afterwards."""
    dsn = databases.create()
    suffix = secrets.token_hex(4)
    names = {name: f"pgqueue_test_{name}_{suffix}" for name in NAMES}
    owner, migrator = names["owner"], names["migrator"]
    with psycopg.connect(dsn, autocommit=True) as conn:
        for name in names.values():
            # NOINHERIT: the migrator has the owner's rights only where it asks for them.
            attributes = "nologin" if name == owner else "login noinherit"
            conn.execute(_quoted(f"create role {{}} {attributes} nobypassrls", name))
        conn.execute(_quoted("grant {} to {}", owner, migrator))
        conn.execute(_quoted("grant create on database {} to {}", conn.info.dbname, owner))
        roles = Roles(dsn, names)
        try:
            with Client(roles.login("migrator", role=owner)) as client:
                client.migrate()
            with roles.as_owner() as db:
                db.rows("insert into pgqueue.poke (name, url) values ('media', 'https://x.y/')")
            conn.execute(NET.read_bytes())
            conn.execute("grant select on all tables in schema net to public")
            for access in ("producer", "worker", "viewer"):
                roles.grant(access, access)
            yield roles
        finally:
            databases.discard(dsn)
            for name in reversed(names.values()):
                conn.execute(_quoted("drop owned by {} cascade", name))
            for name in reversed(names.values()):
                conn.execute(_quoted("drop role {}", name))


def refused(db: Db, statement: str, *params: Any) -> bool:
    """Whether a statement is refused for want of a right; what it did otherwise is undone."""
    with db.transaction():
        try:
            db.rows(statement, *params)
        except psycopg.errors.InsufficientPrivilege:
            return True
        return False
