"""The fixtures, in a pytest of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgqueue import Client
from pgqueue.testing import plugin
from pgqueue.testing.databases import MARK, Databases


def databases(dsn: str) -> dict[str, str | None]:
    """All on the server, with their comments."""
    with psycopg.connect(dsn) as conn:
        return dict(
            conn.execute("select datname, shobj_description(oid, 'pg_database') from pg_database")
        )


@pytest.fixture
def server(pgqueue_server_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The server of this run, for the pytest within."""
    monkeypatch.setenv("PGQUEUE_TEST_DSN", pgqueue_server_dsn)
    before = databases(pgqueue_server_dsn)
    yield pgqueue_server_dsn
    assert databases(pgqueue_server_dsn) == before


def test_each_test_has_a_database_of_its_own(pytester: pytest.Pytester, server: str) -> None:
    """With pgqueue installed, nothing in it, and gone afterwards; also after a failed test."""
    pytester.makepyfile(
        """
        import asyncio
        import psycopg
        import pytest

        names = set()
        kept = []

        @pytest.mark.parametrize("n", range(3))
        def test_sync(pgqueue_client, pgqueue_dsn, n):
            assert pgqueue_client.list() == []
            pgqueue_client.schema_state().check()
            pgqueue_client.enqueue("a")
            assert pgqueue_dsn not in names
            names.add(pgqueue_dsn)
            kept.append(psycopg.connect(pgqueue_dsn))  # is thrown out
            assert n != 1

        @pytest.mark.parametrize("n", range(3))
        def test_async(pgqueue_async_client, n):
            async def main():
                assert await pgqueue_async_client.list() == []
                await pgqueue_async_client.enqueue("a")
            asyncio.run(main())
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=5, failed=1)
    assert server


def test_schema_and_template_can_be_overridden(pytester: pytest.Pytester, server: str) -> None:
    """Another schema, and tables of the project's own in each database."""
    pytester.makeconftest(
        """
        import psycopg
        import pytest

        @pytest.fixture(scope="session")
        def pgqueue_schema():
            return "Jobs"

        @pytest.fixture(scope="session")
        def pgqueue_template(pgqueue_template):
            with psycopg.connect(pgqueue_template) as conn:
                conn.execute("create table mine (n int)")
            return pgqueue_template
        """
    )
    pytester.makepyfile(
        """
        import psycopg

        def test_it(pgqueue_client, pgqueue_dsn):
            assert pgqueue_client.schema == "Jobs"
            pgqueue_client.enqueue("a")
            with psycopg.connect(pgqueue_dsn) as conn:
                conn.execute('select from "Jobs".job, mine')
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    assert server


def test_server_may_be_named_by_a_uri(pgqueue_server_dsn: str) -> None:
    """As well as by key=value; where no database is named there, too."""
    parts = {k: v for k, v in conninfo_to_dict(pgqueue_server_dsn).items() if v is not None}
    name = parts.pop("dbname", "postgres")
    query = "&".join(f"{key}={str(value).replace('/', '%2F')}" for key, value in parts.items())
    for dsn in (f"postgresql:///{name}?{query}", f"postgresql://?{query}&dbname={name}"):
        with Databases(dsn) as made, Client(made.create_template("pgqueue")) as client:
            client.enqueue("a")


def test_without_a_server_one_is_started(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each process of pytest-xdist one, and gone with it."""
    monkeypatch.delenv("PGQUEUE_TEST_DSN", raising=False)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_it(pgqueue_client, pgqueue_server_dsn, n):
            pgqueue_client.enqueue("a")
            with open(f"server-{n}", "w") as file:
                file.write(pgqueue_server_dsn)
        """
    )
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=4)
    servers = {path.read_text("utf-8") for path in pytester.path.glob("server-*")}
    assert len(servers) == 2
    for dsn in servers:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn)


def test_server_is_kept_in_memory_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it lies where temporary files lie."""
    monkeypatch.setattr(plugin, "MEMORY", str(tmp_path))
    monkeypatch.setattr(plugin, "ENOUGH_MEMORY", 0)
    assert plugin._memory() == str(tmp_path)
    monkeypatch.setattr(plugin, "ENOUGH_MEMORY", 2**80)
    assert plugin._memory() is None
    monkeypatch.setattr(plugin, "MEMORY", "/nonexistent")
    assert plugin._memory() is None


def test_plugin_is_found_by_pytest(pytester: pytest.Pytester) -> None:
    """As an entry point: nobody has to name it."""
    result = pytester.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines(["*pgqueue_client*", "*A client of that database.*"])


def test_databases_are_marked_and_dropped(pgqueue_server_dsn: str) -> None:
    """Their comment says who made them; one is dropped when the next is made, all at the end."""
    before = databases(pgqueue_server_dsn)
    with Databases(pgqueue_server_dsn) as made:
        template = made.create_template("My-Schema")
        one = made.create(template)
        name = str(conninfo_to_dict(one)["dbname"])
        assert databases(pgqueue_server_dsn)[name] == MARK
        with Client(one, schema="My-Schema") as client:
            client.enqueue("a")
        made.discard(one)
        made.create(template)
        assert name not in databases(pgqueue_server_dsn)
    assert databases(pgqueue_server_dsn) == before


def test_database_that_was_dropped_already_is_no_harm(pgqueue_server_dsn: str) -> None:
    """A test may have done so."""
    with Databases(pgqueue_server_dsn) as made:
        name = conninfo_to_dict(made.create())["dbname"]
        with psycopg.connect(pgqueue_server_dsn, autocommit=True) as conn:
            conn.execute(f"drop database {name}".encode())
