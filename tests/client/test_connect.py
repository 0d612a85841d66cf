"""Which database a client connects to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import pgqueue
from pgqueue import Client, DatabaseUnavailable, embedded


@pytest.fixture(params=["uri", "key-value"])
def dsn(request: pytest.FixtureRequest, pgqueue_dsn: str) -> str:
    """The test's database, named in either way."""
    if request.param == "key-value":
        return make_conninfo(pgqueue_dsn)
    parts = {k: v for k, v in conninfo_to_dict(pgqueue_dsn).items() if v is not None}
    name = parts.pop("dbname")
    query = "&".join(f"{key}={str(value).replace('/', '%2F')}" for key, value in parts.items())
    return f"postgresql:///{name}?{query}"


def test_dsn_may_be_written_either_way(dsn: str, make_client: Callable[..., Client]) -> None:
    """As a URI or as key=value."""
    client = make_client(dsn)
    client.enqueue("a")
    assert len(client.claim()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "/nonexistent"},
        {"port": "1"},
        {"dbname": "no-such-database"},
        pytest.param(
            {"user": "no-such-user"}, marks=pytest.mark.direct("the user is the pooler's")
        ),
        {"host": "127.0.0.1", "port": "1", "password": "secret"},
        {"host": "name.invalid"},
    ],
)
def test_wrong_dsn_is_told_at_once(
    make_client: Callable[..., Client], pgqueue_dsn: str, wrong: dict[str, str]
) -> None:
    """Without waiting for a pool that tries again and again, and without the password."""
    client = make_client(make_conninfo(pgqueue_dsn, **wrong))
    with pytest.raises(DatabaseUnavailable, match="check the DSN") as caught:
        client.enqueue("a")
    assert "secret" not in str(caught.value)


def test_wrong_password_is_told_without_it(make_client: Callable[..., Client]) -> None:
    """Nor is the right one in any message."""
    with embedded.temporary() as server:
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute("create role locked login password 'right-secret'")
            rules = server.data / "pg_hba.conf"
            rules.write_text(f"local all locked scram-sha-256\n{rules.read_text('utf-8')}", "utf-8")
            conn.execute("select pg_reload_conf()")
        for password in ({"password": "wrong-secret"}, {}):
            client = make_client(make_conninfo(server.dsn, user="locked", **password))
            with pytest.raises(DatabaseUnavailable, match="check the DSN") as caught:
                client.enqueue("a")
            assert "secret" not in str(caught.value)
        right = make_client(make_conninfo(server.dsn, user="locked", password="right-secret"))  # noqa: S106
        with pytest.raises(pgqueue.SchemaMissing):
            right.enqueue("a")
        right.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("where", ["database", "dsn", "environment"])
def test_every_character_is_stored_whatever_the_default_encoding(
    make_client: Callable[..., Client],
    pgqueue_dsn: str,
    sql: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    encoding: str,
) -> None:
    """Connections of a client's own are UTF-8: one job in Chinese would end every claim else."""
    dsn = pgqueue_dsn
    if where == "database":
        name = conninfo_to_dict(pgqueue_dsn)["dbname"]
        sql(f"alter database {name} set client_encoding to '{encoding}'")
    elif where == "dsn":
        dsn = make_conninfo(dsn, client_encoding=encoding)
    else:
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
    client = make_client(dsn)
    client.enqueue("a", "ä雪", tags=["雪"])
    client.enqueue_many([("a", "雪")] * 200)
    jobs = client.claim(limit=300)
    assert {job.payload for job in jobs} == {"ä雪", "雪"}
    client.ack(jobs[0], result="雪")
    assert client.get(jobs[0].id).result == "雪"


def test_dsn_that_is_none(make_client: Callable[..., Client]) -> None:
    """It is refused before anything is connected."""
    client = make_client("postgresql://host/db?no_such_option=1")
    with pytest.raises(pgqueue.ConfigurationError, match="cannot be parsed"):
        client.enqueue("a")


def test_target_of_another_type_is_refused(make_client: Callable[..., Client]) -> None:
    """The message says what to pass."""
    for target in (7, object(), b"dsn"):
        with pytest.raises(pgqueue.ConfigurationError, match="pass a DSN or"):
            make_client(target)


def test_closed_client_connects_again(client: Client) -> None:
    """Closing frees the connections; the next operation makes new ones."""
    client.enqueue("a")
    client.close()
    client.close()
    with client:
        assert len(client.claim()) == 1
    assert client.stats()


def test_wait_is_bounded_by_its_timeout_when_the_server_is_gone(
    make_client: Callable[..., Client], pgqueue_dsn: str
) -> None:
    """It is told, not waited for."""
    client = make_client(make_conninfo(pgqueue_dsn, port="1"))
    with pytest.raises(DatabaseUnavailable):
        client.wait(1, timeout=timedelta(hours=1))
