"""docs/why.md, and the tests beside this, know every gate."""

from __future__ import annotations

import re
from pathlib import Path

from pgqueue import GateCode

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "why.md"


def test_every_gate_is_on_the_page() -> None:
    """Once, with its meaning; and the page has none that there is not."""
    listed = re.findall(r"^\| `(\w+)` \| \S", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(code.value for code in GateCode)


def test_every_gate_has_a_test() -> None:
    """That makes it in a database."""
    text = "".join(path.read_text("utf-8") for path in HERE.glob("test_*.py"))
    named = set(re.findall(r"GateCode\.([A-Z_]+)", text))
    assert {code.name for code in GateCode} <= named
