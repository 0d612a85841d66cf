"""Links between the pages of the checkout lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked as."""
    text = FENCE.sub("", page.read_text("utf-8"))
    slugs = set()
    for heading in HEADING.findall(text):
        words = re.sub(r"[^\w\s-]", "", heading).strip().lower()
        slugs.add(re.sub(r"[-\s]+", "-", words))
    return slugs


def test_internal_links_resolve(pages: list[Path], root: Path) -> None:
    """Each relative link names a file that is there, and a heading in it."""
    broken = []
    for page in [*pages, root / "CONTRIBUTING.md", root / "SECURITY.md"]:
        text = FENCE.sub("", page.read_text("utf-8"))
        for found in LINK.findall(text):
            link = found[0] or found[1]
            if link.startswith(("http://", "https://")):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {link}")
    assert not broken


def test_every_page_is_in_the_navigation(pages: list[Path], root: Path) -> None:
    """A page that is in no menu would not be found, and a menu may not name one that is missing."""
    named = set(re.findall(r": (\S+\.md)$", (root / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert named == {page.name for page in pages if page.parent.name == "docs"}


@pytest.mark.parametrize("name", ["job_life", "cron_ways"])
def test_drawing_is_what_its_script_draws(root: Path, name: str) -> None:
    """The committed picture is up to date."""
    drawn = runpy.run_path(str(root / "docs" / f"{name}.py"))
    assert drawn["OUT"].read_text("utf-8") == drawn["drawing"]()
