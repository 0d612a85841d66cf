"""Secrets: in Vault or in a table of their own that hardly anybody may read."""

from __future__ import annotations

import psycopg
import pytest
from tests.hosted.database import Sql

from pgqueue import Client, ConfigurationError
from pgqueue.pg_cron import PgCron


@pytest.fixture
def cron(pgqueue_client: Client) -> PgCron:
    """The adapter."""
    return PgCron(pgqueue_client)


def test_secret_goes_to_the_table_where_there_is_no_vault(sql: Sql, cron: PgCron) -> None:
    """And is replaced there."""
    assert cron.sync_secret("one", "hush") == "table"
    assert cron.sync_secret("two", "hush") == "table"
    assert sql("select name, value from pgqueue.secret") == [("hush", "two")]
    with pytest.raises(ConfigurationError, match=r"no Vault.*use the store 'table'"):
        cron.sync_secret("x", "hush", store="vault")
    assert sql.one("select pgqueue._secret_value('hush')") == "two"
    assert sql.one("select pgqueue.remove_secret('hush')") is True
    assert sql.one("select pgqueue.remove_secret('hush')") is False


def test_secret_goes_to_vault_where_there_is_one(sql: Sql, cron: PgCron) -> None:
    """Once put into the table it stays there, until it is asked to move."""
    cron.sync_secret("one", "early")
    sql.double("vault")
    assert cron.sync_secret("two", "early") == "table"
    assert cron.sync_secret("three", "hush") == "vault"
    assert cron.sync_secret("four", "hush") == "vault"
    assert sql("select name, decrypted_secret from vault.decrypted_secrets") == [("hush", "four")]
    assert cron.sync_secret("five", "early", store="vault") == "vault"
    assert sql("select name from pgqueue.secret") == []
    assert cron.sync_secret("six", "hush", store="table") == "table"
    assert sql.one("select pgqueue._secret_value('hush')") == "six"
    assert sql("select name from vault.secrets") == [("early",)]
    assert sql.one("select pgqueue.remove_secret('early')") is True
    assert sql("select name from vault.secrets") == []


@pytest.mark.parametrize("value", ["", "two words", "line\nend", "schlüssel", "x" * 4097])
def test_values_that_no_header_takes_are_refused(cron: PgCron, value: str) -> None:
    """Without being quoted in the error."""
    with pytest.raises(ConfigurationError, match="value of secret 'hush' cannot be sent") as error:
        cron.sync_secret(value, "hush")
    assert not value or value not in str(error.value)


def test_bad_names_and_stores_are_refused(cron: PgCron) -> None:
    """With what may be passed."""
    with pytest.raises(ConfigurationError, match="the secret's name is 'a b'"):
        cron.sync_secret("x", "a b")
    with pytest.raises(ConfigurationError, match="use vault or table"):
        cron.sync_secret("x", "hush", store="disk")
    with pytest.raises(ConfigurationError, match="pass a string"):
        cron.sync_secret(None, "hush")  # type: ignore[arg-type]


@pytest.mark.parametrize("access", ["producer", "worker", "viewer"])
def test_secret_is_hidden_from_all_other_roles(
    sql: Sql, cron: PgCron, role: str, as_role: Sql, access: str
) -> None:
    """Even where the host grants all tables to everybody."""
    cron.sync_secret("s3cr3t", "hush")
    sql("select pgqueue.grant_access(%s::name, %s)", role, access)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("select * from pgqueue.secret")
    sql("grant all on all tables in schema pgqueue to public")
    assert as_role("select * from pgqueue.secret") == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("insert into pgqueue.secret (name, value) values ('hush2', 'mine')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("select pgqueue.put_secret('hush', 'mine')")


def test_role_of_pg_cron_may_poke_with_the_secret(
    sql: Sql, cron: PgCron, role: str, as_role: Sql
) -> None:
    """grant_access(..., 'cron') is all it needs, and may be called again."""
    cron.sync_secret("s3cr3t", "hush")
    for _ in range(2):
        sql("select pgqueue.grant_access(%s::name, 'cron')", role)
    as_role("insert into pgqueue.poke (name, url, secret) values ('media', 'https://x.y/', 'hush')")
    as_role("select pgqueue.enqueue('k')")
    assert as_role.one("select pgqueue.poke('media')") is not None
    assert as_role.one("select pgqueue.put_secret('hush', 'rotated')") == "table"
    as_role("call pgqueue.run_minute('61 s')")
    with pytest.raises(psycopg.Error, match=r"may not see the requests of pg_net.*grant select on"):
        as_role("select * from pgqueue.poke_failures()")
    sql("grant select on net.http_request_queue, net._http_response to public")
    assert as_role("select * from pgqueue.poke_failures()") == []
