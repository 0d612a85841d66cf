"""Reads the documentation as the tests need it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?P<skip> *<!-- not run -->\n)?(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Block:
    """A fenced block of code."""

    language: str
    text: str
    run: bool
    """False after a comment <!-- not run -->."""
    line: int


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["text"].splitlines(keepends=True)]
        line = text.count("\n", 0, found.start()) + 1
        yield Block(found["language"], "".join(lines), not found["skip"], line)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def blocks() -> Callable[[Path], list[Block]]:
    """The fenced blocks of a page."""
    return lambda page: list(_blocks(page))


@pytest.fixture(scope="session")
def pages() -> list[Path]:
    """Every page that people read, with those outside the site."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
