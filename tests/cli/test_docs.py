"""docs/cli.md says everything, and what it shows is what is printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psycopg
import pytest

from pgqueue.cli.app import app
from pgqueue.cli.command import COMMON
from pgqueue.cli.exits import Exit

from .conftest import Ran, Run

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIME = re.compile(r"\bnow\b|(?:\bin )?\b\d+(?:\.\d+)?[smhd]\b(?: ago)?")
_SECONDS = re.compile(r'(_seconds": )[\d.]+')


def sections() -> dict[str, str]:
    """The text below each heading of a command."""
    parts = re.split(r"^###? (.*)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options(command: click.Command) -> Iterator[str]:
    """Every way of writing every option of a command and of those below it."""
    for param in command.params:
        if isinstance(param, click.Option):
            yield from param.opts
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from options(below)


@pytest.mark.parametrize("name", sorted(app.commands))
def test_command_is_documented_with_its_options(name: str) -> None:
    """A heading for each command, and every option below it."""
    text = sections()[name]
    command = app.commands[name]
    missing = [
        option for option in options(command) if not re.search(rf"(?<![\w-]){option}\b", text)
    ]
    assert missing == []
    below = command.commands if isinstance(command, click.Group) else {}
    assert [verb for verb in below if not re.search(rf"`([\w ]+ )?{verb}`", text)] == []


def test_help_lists_every_command_once() -> None:
    """Each has its theme."""
    listed = [name for names in app.themes.values() for name in names]
    assert sorted(listed) == sorted(app.commands)


def test_common_options_and_exit_codes_are_documented() -> None:
    """All of them, and no exit code that there is not."""
    text = PAGE.read_text("utf-8")
    for option in COMMON:
        assert all(f"`{name}" in text for name in option.opts)
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == set(Exit)


def normal(text: str) -> str:
    """What is printed, apart from times and the width of columns."""
    text = _SECONDS.sub(r"\1#", _TIME.sub("#", text))
    return re.sub(r"[ \t]+", " ", text).strip()


def matches(shown: str, printed: str) -> bool:
    """Whether a page shows what is printed; `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in normal(shown).split("..."))
    return re.fullmatch(pattern, normal(printed), re.DOTALL) is not None


@pytest.fixture
def shell(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Ran]]:
    """Runs lines of shell in an empty folder, and `pgqueue` in this process: it starts faster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    last = Ran(0, "", "")

    def execute(line: str) -> Ran:
        nonlocal last
        before, _, command = line.rpartition("| ")
        if command == "echo $?":
            return Ran(0, f"{last.code}\n", "")
        given = subprocess.run(["/bin/sh", "-c", before], stdout=subprocess.PIPE, check=True).stdout
        last = run(*shlex.split(command)[1:], stdin=given)
        return last

    yield execute
    sys.modules.pop("jobs", None)


def test_examples_print_what_the_page_shows(
    shell: Callable[[str], Ran], pgqueue_dsn: str, tmp_path: Path
) -> None:
    """Each command of the page, in their order, on an empty database."""
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("drop schema pgqueue cascade")
    for language, text in _BLOCK.findall(PAGE.read_text("utf-8")):
        if language == "python":
            (tmp_path / "jobs.py").write_text(text)
            continue
        for example in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, shown = example.partition("\n")
            done = shell(line)
            assert matches(shown, done.err + done.out), (line, done)
