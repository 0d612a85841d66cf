"""`demo`, as far as the command line goes."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from pgqueue.demo import Demo
from pgqueue.demo.audit import Audit

from .conftest import Run

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One file to read."""
    (tmp_path / "one.py").write_text("def f(): pass\n")
    return tmp_path


def test_demo_tells_its_story_and_the_account(run: Run, tree: Path) -> None:
    """In plain lines, since this is no terminal."""
    done = run("demo", "--path", tree)
    assert done.code == 0
    assert "1 jobs enqueued" in done.out
    assert done.out.endswith("lost 0: 1 enqueued = 1 succeeded + 0 dead\n")


def test_demo_in_json_is_the_account_alone(
    run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed audit is exit 1."""
    done = run("demo", "--path", tree, "--json", "--schema", "elsewhere")
    assert done.code == 0
    account = done.json
    assert set(account) == {f.name for f in attrs.fields(Audit)} | {"passed"}
    assert (account["enqueued"], account["lost"], account["passed"]) == (1, 0, True)

    failed = Audit(**{**{k: v for k, v in account.items() if k != "passed"}, "lost": 1})
    monkeypatch.setattr(Demo, "run", lambda _: failed)
    assert run("demo", "--path", tree, "--json").code == 1


@pytest.mark.parametrize(
    "args,why",
    [
        (("--path", "/nonexistent"), "does not exist"),
        (("--schema", "pgqueue_other"), "is not the demo's"),
    ],
)
def test_demo_that_cannot_be_is_exit_2(
    run: Run, tree: Path, args: tuple[str, ...], why: str
) -> None:
    """A folder that is not there, a schema that is somebody's."""
    run("migrate", "--schema", "pgqueue_other")
    done = run("demo", *(args if "--path" in args else (*args, "--path", tree)))
    assert (done.code, why in done.err) == (2, True)
