"""docs/sql.md against the catalog, and its examples against a database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import attrs
import psycopg
import pytest


class Block(Protocol):
    """A fenced block of code."""

    language: str
    text: str


Blocks = Callable[[Path], list[Block]]
SIGNATURE = re.compile(r"pgqueue\.(\w+)\((.*?)\)(?: returns (.*))?", re.DOTALL)
VARIABLE = re.compile(r"(?<!:):(\w+)")
HEADING = re.compile(r"^### (\w+)$", re.MULTILINE)
CATALOG = """
    select p.proname, pg_get_function_arguments(p.oid), coalesce(pg_get_function_result(p.oid), '')
    from pg_proc p
    where p.pronamespace = 'pgqueue'::regnamespace and p.proname !~ '^_'
"""


def plain(sql: str) -> str:
    """A declaration as the page and the catalog would both write it."""
    sql = re.sub(r"::[a-z ]+(\[\])?", "", sql.lower())
    sql = sql.replace("timestamp with time zone", "timestamptz")
    sql = sql.replace("time without time zone", "time").replace('"', "")
    for clock, words in (("00:00:30", "30 seconds"), ("00:10:00", "10 minutes"), ("00:00:00", "0")):
        sql = sql.replace(f"'{clock}'", f"'{words}'")
    return re.sub(r"\s+", " ", sql).replace("( ", "(").replace(" )", ")").strip()


def from_catalog(arguments: str, result: str) -> tuple[str, str]:
    """Parameters and result, as the page writes them."""
    listed = re.split(r", (?=(?:OUT )?\"?\w+\"? )", arguments)
    parts = [plain(part).removeprefix("in ") for part in listed if part]
    outs = [part.removeprefix("out ") for part in parts if part.startswith("out ")]
    given = ", ".join(part for part in parts if not part.startswith("out "))
    return given, f"({', '.join(outs)})" if outs else plain(result).replace("table(", "table (")


@pytest.fixture
def connection(pgqueue_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection that commits each statement."""
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture
def page(root: Path) -> Path:
    """The page."""
    return root / "docs" / "sql.md"


def test_every_public_function_is_documented_exactly(
    connection: psycopg.Connection, page: Path, blocks: Blocks
) -> None:
    """Names, types and defaults of parameters, and results, are those of the catalog."""
    actual = {
        name: from_catalog(arguments, result)
        for name, arguments, result in connection.execute(CATALOG)
    }
    documented = {}
    for block in blocks(page):
        found = SIGNATURE.fullmatch(block.text.strip())
        if found:
            documented[found[1]] = (plain(found[2]), plain(found[3] or ""))
    assert documented == actual


def test_every_signature_has_its_heading(page: Path) -> None:
    """Each function can be linked to."""
    text = page.read_text("utf-8")
    signatures = set(re.findall(r"^pgqueue\.(\w+)\($", text, re.MULTILINE))
    assert signatures == set(HEADING.findall(text)) - {"all_jobs", "setting"}


def test_view_is_documented(connection: psycopg.Connection, page: Path) -> None:
    """Each column of all_jobs is named."""
    section = page.read_text("utf-8").partition("### all_jobs")[2].partition("###")[0]
    cursor = connection.execute("select * from pgqueue.all_jobs limit 0")
    assert cursor.description is not None
    for column in cursor.description:
        assert f"`{column.name}`" in section


def test_settings_are_documented(connection: psycopg.Connection, root: Path) -> None:
    """Each setting is named in the guide."""
    section = (root / "docs" / "guide-deploy.md").read_text("utf-8").partition("## Settings")[2]
    cursor = connection.execute("select * from pgqueue.setting limit 0")
    assert cursor.description is not None
    for column in cursor.description:
        assert column.name == "only_row" or f"`{column.name}`" in section


@attrs.frozen
class Command:
    """A statement typed into psql, and what it showed."""

    sql: str
    shown: list[list[str]]
    """Rows of cells, the column names first."""


def commands(text: str) -> Iterator[Command]:
    """Reads a block of psql: `=> ` begins a statement, a line of spaces goes on with it."""
    for part in re.split(r"^=> ", text, flags=re.MULTILINE)[1:]:
        statement, _, output = part.partition("\n")
        while not statement.rstrip().endswith((";", "\\gset")):
            more, _, output = output.partition("\n")
            statement += "\n" + more
        rows = [line for line in output.splitlines() if line.strip() and not set(line) <= set("-+")]
        yield Command(statement, [[cell.strip() for cell in row.split("|")] for row in rows])


def execute(connection: psycopg.Connection, sql: str) -> tuple[list[str], list[list[str]]]:
    """The names and cells of a result, as text."""
    result = connection.pgconn.exec_(sql.replace("\\gset", "").encode())
    assert not result.error_message, result.error_message.decode()
    columns = range(result.nfields)
    names = [(result.fname(column) or b"").decode() for column in columns]
    cells = [
        [(result.get_value(row, column) or b"").decode() for column in columns]
        for row in range(result.ntuples)
    ]
    return names, cells


def test_examples_show_what_psql_shows(
    connection: psycopg.Connection, page: Path, blocks: Blocks
) -> None:
    """All examples of the page, in their order, give what is shown; … stands for anything."""
    variables: dict[str, str] = {}
    seen = 0
    for block in blocks(page):
        for command in commands(block.text) if block.language == "psql" else ():
            seen += 1
            names, cells = execute(
                connection,
                VARIABLE.sub(lambda found: variables.get(found[1], found[0]), command.sql),
            )
            if command.sql.endswith("\\gset"):
                variables.update(zip(names, cells[0], strict=True))
            elif command.shown and any(any(row) for row in cells):
                for shown, actual in zip(command.shown, [names, *cells], strict=True):
                    expected = [a if s == "…" else s for s, a in zip(shown, actual, strict=True)]
                    assert actual == expected, command.sql
    assert seen > 20
