"""What the demo's jobs find in a file."""

from __future__ import annotations

import pytest

from pgqueue.demo.handlers import survey

SOURCE = b'''
class Outer:
    class Inner:
        def method(self):
            """Two
            lines."""

    async def later(self):
        if self:
            pass
        elif self.x:
            def in_elif():
                pass


try:
    def in_try(): pass
except ValueError:
    def in_except(): pass
else:
    def in_else(): pass
finally:
    def in_finally(): pass

match 1:
    case 1:
        class Cased: pass

for x in []:
    with open(x):
        def in_with():
            return lambda: None
'''


def test_definitions_are_counted_at_any_depth() -> None:
    """Wherever a statement may stand; a lambda is no definition."""
    found = survey(SOURCE, "x.py")
    assert (found["functions"], found["classes"]) == (8, 3)
    assert found["lines"] == len(SOURCE.splitlines())


def test_longest_function_is_named() -> None:
    """With its lines; a file without any has none."""
    assert survey(SOURCE, "x.py")["longest"] == {"name": "later", "lines": 6}
    assert survey(b"x = 1\n", "x.py")["longest"] is None
    assert survey(b"", "x.py") == {"lines": 0, "functions": 0, "classes": 0, "longest": None}


def test_broken_file_is_an_error() -> None:
    """The error names the file."""
    with pytest.raises(SyntaxError, match=r"bad\.py"):
        survey(b"print 'x'\n", "bad.py")
