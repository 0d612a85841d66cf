"""docs/reliability.md names tests and scenarios that exist, and the figures of a soak."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.faults.harness.report import markdown
from tests.faults.scenarios import SCENARIOS

ROW = re.compile(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
MODES = 45


@pytest.fixture
def page(root: Path) -> str:
    """The page."""
    return (root / "docs" / "reliability.md").read_text("utf-8")


@pytest.fixture
def shown(page: str) -> dict[int, list[str]]:
    """By what each mode is shown."""
    return {int(row[1]): CODE.findall(row[4]) for row in ROW.finditer(page)}


def test_every_mode_has_its_row(shown: dict[int, list[str]]) -> None:
    """In order."""
    assert list(shown) == list(range(1, MODES + 1))


@pytest.mark.parametrize("document", ["reliability.md", "security.md"])
def test_named_tests_exist(root: Path, document: str) -> None:
    """File and function."""
    page = (root / "docs" / document).read_text("utf-8")
    names = set(re.findall(r"`(tests/[^`\s]+)`", page))
    assert names
    for name in names:
        path, _, function = name.partition("::")
        text = (root / path).read_text("utf-8")
        assert not function or re.search(rf"def {function}\b", text), name


def test_scenarios_are_those_of_the_soak(page: str, shown: dict[int, list[str]]) -> None:
    """Each is in the table of modes; what is no test and no command is one."""
    names = {name for names in shown.values() for name in names}
    named = {name for name in names if not name.startswith(("tests/", "make "))}
    known = {scenario.name for scenario in SCENARIOS}
    assert named <= known
    assert all(f"`{name}`" in page for name in known)


def test_figures_are_those_of_a_soak(root: Path, page: str) -> None:
    """As it wrote them, and all of its promises were kept."""
    data = json.loads((root / "docs" / "images" / "soak.json").read_text("utf-8"))
    assert markdown(data) in page
    assert all(scenario["ok"] for scenario in data["scenarios"])
