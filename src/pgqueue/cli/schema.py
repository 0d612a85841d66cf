"""`migrate` and `grant`: what the owner of the schema does."""

from __future__ import annotations

import click
import psycopg

from pgqueue import migrate as migrations
from pgqueue.cli.command import Command
from pgqueue.cli.exits import Exit
from pgqueue.cli.output import answer, json_line
from pgqueue.cli.session import Session, pass_session

ACCESS = ("producer", "worker", "viewer", "cron", "tenant", "tenant_viewer")


@click.command(cls=Command)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if the schema is not current.")
@click.option("--sql", is_flag=True, help="Print the script instead, for Alembic, Django or a DBA.")
@click.option(
    "--from-installed", is_flag=True, help="With --sql: only what is missing in the database."
)
@pass_session
def migrate(session: Session, *, check: bool, sql: bool, from_installed: bool) -> Exit:
    """Install pgqueue in the database, or bring it up to date.

    It is safe to run at any time, by several at once, and while workers run.
    """
    if check and sql:
        raise click.UsageError("--check and --sql exclude each other")
    if from_installed and not sql:
        raise click.UsageError("--from-installed is only for --sql")
    if sql:
        return _print_script(session, from_installed=from_installed)
    before = session.client().schema_state()
    if not check:
        session.client().migrate()
    after = session.client().schema_state()
    what = {
        "schema": session.schema,
        "version": after.version,
        "latest": migrations.latest_version(),
        "current": after.current,
        "changed": before != after,
    }
    answer(session.json, what, _words(before, after))
    return Exit.OK if after.current else Exit.NEGATIVE


def _words(before: migrations.SchemaState, after: migrations.SchemaState) -> str:
    where = f"schema {after.schema!r}"
    if not after.version:
        return f"{where}: pgqueue is not installed; run `pgqueue migrate`"
    if after.version > migrations.latest_version():
        return (
            f"{where} is at version {after.version}, newer than this pgqueue; upgrade the package"
        )
    if not after.current:
        return (
            f"{where} is at version {after.version}, older than this pgqueue; run `pgqueue migrate`"
        )
    if before == after:
        return f"{where} is current, at version {after.version}"
    done = "upgraded" if before.version else "installed"
    return f"{where}: {done}, now at version {after.version}"


def _print_script(session: Session, *, from_installed: bool) -> Exit:
    state = session.client().schema_state() if from_installed else None
    script = migrations.script(session.schema, after=state)
    if session.json:
        json_line({"schema": session.schema, "script": script})
    else:
        click.echo("-- Run this in one transaction, as psql -1 -v ON_ERROR_STOP=1 does.")
        click.echo(script, nl=False)
    return Exit.OK


@click.command(cls=Command)
@click.argument("role")
@click.argument("access", type=click.Choice(ACCESS))
@pass_session
def grant(session: Session, role: str, access: str) -> None:
    """Give a database role what it needs and no more.

    A producer enqueues, a worker also claims and ends jobs, a viewer reads; cron is for who runs
    the jobs of pg_cron. A tenant enqueues, reads, cancels and retries its own, and a tenant_viewer
    reads its own, once isolate_tenants() was called. The owner of the schema runs it, again after
    each upgrade.
    """
    schema = session.client().statements.quoted
    try:
        session.value(f"select {schema}.grant_access(%s::name, %s)", role, access)
    except psycopg.errors.UndefinedObject as error:
        raise click.UsageError(f"there is no role {role!r}; create it first") from error
    what = {"schema": session.schema, "role": role, "access": access}
    answer(session.json, what, f"role {role!r} has {access} access to schema {session.schema!r}")
