"""The public API is documented."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

import pgqueue
from pgqueue import models, statements

PUBLIC = sorted(
    name
    for name, value in vars(pgqueue).items()
    if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_has_a_docstring(name: str) -> None:
    """Each public class or function says what it is, and so do its public methods."""
    value = getattr(pgqueue, name)
    if not inspect.isclass(value):
        assert not inspect.isroutine(value) or inspect.getdoc(value)
        return
    assert vars(value).get("__doc__")
    for member, function in vars(value).items():
        if not member.startswith("_") and (
            inspect.isfunction(function) or isinstance(function, property)
        ):
            assert inspect.getdoc(function), f"{name}.{member}"


def test_every_public_name_is_on_the_api_page(root: Path) -> None:
    """The page lists all that `pgqueue` exports, and nothing that it does not."""
    text = (root / "docs" / "api.md").read_text("utf-8")
    listed = re.findall(r"^::: pgqueue\.([A-Za-z]\w*)$", text, re.MULTILINE)
    modules = {
        "errors", "embedded", "testing", "doctor", "endpoint", "events", "pg_cron", "alerts",
        "metrics", "otel", "dashboard", "transfer",
    }  # fmt: skip
    assert sorted(set(listed) - modules) == PUBLIC


def test_defaults_that_are_shown_by_name(root: Path) -> None:
    """The API page says what the named defaults are."""
    text = (root / "docs" / "api.md").read_text("utf-8").replace("\n", " ")
    assert f'`DEFAULT_SCHEMA` is `"{statements.DEFAULT_SCHEMA}"`' in text
    assert f'`DEFAULT_QUEUE` is `"{models.DEFAULT_QUEUE}"`' in text
    assert f"`DEFAULT_PRIORITY` is {models.DEFAULT_PRIORITY}," in text
    assert "`DEFAULT_LEASE` is 30 seconds" in text
    assert timedelta(seconds=30) == models.DEFAULT_LEASE


class Resources(HTMLParser):
    """Collects what a page makes a browser fetch, and the ids in it."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif value and tag != "a" and name in ("src", "href", "srcset", "data"):
                self.fetched.append(value)


@pytest.mark.slow
def test_site_is_built_and_fetches_nothing_from_elsewhere(root: Path, tmp_path: Path) -> None:
    """The strict build passes; its pages need no other host, and have all of the API."""
    if (
        importlib.util.find_spec("mkdocs") is None
        or importlib.util.find_spec("mkdocstrings") is None
    ):
        pytest.skip("mkdocs is not installed; it is in the extra `docs`")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=28,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    pages = {path: Resources() for path in (tmp_path / "site").rglob("*.html")}
    for path, page in pages.items():
        page.feed(path.read_text("utf-8"))
        assert not [link for link in page.fetched if re.match(r"(https?:)?//", link)], path
    for path in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", path.read_text("utf-8")), path
    missing = {f"pgqueue.{name}" for name in PUBLIC} - pages[tmp_path / "site" / "api.html"].ids
    assert not missing
