"""What goes to stdout: JSON lines for programs, tables for people, plain columns into a pipe."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, cast

import attrs
import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgqueue.cli.report import printable

_LINE = 76
_NARROWEST = 40
"""Columns below which hanging text is wrapped no further."""
_BEYOND_JSON = re.compile(r"[\x7f-\x9f]")
"""What steers a terminal and need not be escaped in JSON."""
_STYLES = {
    "scheduled": "cyan",
    "ready": "blue",
    "claimed": "yellow",
    "succeeded": "green",
    "dead": "bold red",
    "cancelled": "magenta",
    "skipped": "dim",
}


Cell = str | Text


@attrs.frozen
class Column:
    """One column of a table."""

    name: str
    number: bool = False
    cut: bool = False
    """Whether its values may be shortened where the terminal is narrow."""


def json_line(value: object) -> None:
    """One JSON object on a line of its own: the fields of an attrs class, or a mapping."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    text = json.dumps(value, default=_jsonable, ensure_ascii=encoding != "utf8")
    click.echo(_BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return attrs.asdict(cast("attrs.AttrsInstance", value), recurse=False)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC."""
    return moment.astimezone(timezone.utc).isoformat()


def say(text: str) -> None:
    """One line for people."""
    click.echo(printable(text))


def terminal() -> Console:
    """The console of stdout, made anew: tests and pagers replace stdout."""
    return Console(highlight=False, emoji=False, markup=False)


def pretty(value: object) -> str:
    """JSON for people: on one line if it fits."""
    line = json.dumps(value, ensure_ascii=False, default=_jsonable)
    if len(line) <= _LINE:
        return line
    return json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable)


def state_text(state: Enum | str) -> Text:
    """A job's state, in its colour."""
    name = str(state)
    return Text(name, style=_STYLES.get(name, ""))


def alarm(text: str) -> Text:
    """What deserves a look."""
    return Text(text, style="bold red")


def table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
    """A table: coloured and fitted to a terminal, or whole in plain columns."""
    cells = [[_clean(cell) for cell in row] for row in rows]
    console = terminal()
    if console.is_terminal:
        console.print(_rich(columns, cells))
    else:
        _plain(columns, [[cell.plain for cell in row] for row in cells])


def _clean(cell: str | Text) -> Text:
    text = Text(cell) if isinstance(cell, str) else cell
    text.plain = printable(" ".join(text.plain.split()))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _rich(columns: Sequence[Column], cells: Iterable[Sequence[Text]]) -> Table:
    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for column in columns:
        justify = "right" if column.number else "left"
        made.add_column(column.name, justify=justify, no_wrap=not column.cut, overflow="ellipsis")  # type: ignore[arg-type]
    for row in cells:
        made.add_row(*row)
    return made


def _plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.name for column in columns], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, column, width in zip(line, columns, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def fields(pairs: Mapping[str, str | Text | None]) -> None:
    """Names and values, one pair a line; those without a value are left out."""
    known = {name: value for name, value in pairs.items() if value is not None}
    width = max(map(len, known), default=0)
    console = terminal()
    for name, value in known.items():
        line = Text(f"  {name.ljust(width)}  ", style="dim").append_text(_styled(value))
        console.print(line, soft_wrap=True)


def _styled(value: str | Text) -> Text:
    text = value if isinstance(value, Text) else Text(value)
    plain = Text("", style="not dim")
    text.plain = printable(text.plain)
    return plain.append_text(text)


def block(title: str, text: str, *, style: str = "") -> None:
    """A title with lines below it, indented and never cut."""
    console = terminal()
    console.print(Text(title, style="bold"), soft_wrap=True)
    for line in text.splitlines():
        console.print(Text(f"  {printable(line)}", style=style), soft_wrap=True)


def hang(head: Text, text: Text) -> None:
    """`text` behind `head`: wrapped on a terminal, each line below the first; else on one line."""
    console = terminal()
    text.plain = printable(" ".join(text.plain.split()))
    width = max(_NARROWEST, console.width - len(head))
    for line in text.wrap(console, width) if console.is_terminal else [text]:
        line.rstrip()
        console.print(Text.assemble(head, line), soft_wrap=True)
        head = Text(" " * len(head))


def answer(json: bool, value: Mapping[str, Any], text: str) -> None:  # noqa: FBT001 - the session's flag
    """One result, as JSON or in words."""
    if json:
        json_line(value)
    else:
        say(text)
