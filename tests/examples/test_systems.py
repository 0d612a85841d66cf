"""What the systems in examples/ have in common: their files, their README's commands, their SQL."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import psycopg
import pytest
from tests.hosted.fixtures import Hosted

from pgqueue import Client

from .conftest import EXAMPLES, ROOT, Run

HERE = Path(__file__).parent
SYSTEMS = sorted(path.parent for path in EXAMPLES.glob("*/app.py"))
system = pytest.mark.parametrize("folder", SYSTEMS, ids=lambda folder: folder.name)
STATE = (
    "select jobname, schedule, command, database, username, active from cron.job order by 1",
    "select name, queue, url, secret, header, body, timeout from pgqueue.poke order by 1",
    "select name from pgqueue.secret order by 1",
    "select name, kind, cron, every, queue, enabled from pgqueue.schedule order by 1",
    "select relname, relkind from pg_class where relnamespace = 'public'::regnamespace order by 1",
    "select tgrelid::regclass::text, tgname from pg_trigger where not tgisinternal order by 1, 2",
)
"""What a set-up may make."""


def blocks(folder: Path, kind: str) -> list[str]:
    """The README's code blocks of a kind."""
    text = (folder / "README.md").read_text("utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def arguments(command: str) -> list[str]:
    """What Python is called with for a README's command."""
    program, *rest = shlex.split(command, comments=True)
    return {"python": rest, "pgqueue": ["-m", "pgqueue", *rest]}[program]


@system
def test_system_has_its_files_and_its_test(folder: Path) -> None:
    """One page of README, the app, and a set-up for a hosted SQL editor."""
    assert {"README.md", "app.py", "setup.sql"} <= {path.name for path in folder.iterdir()}
    assert (HERE / f"test_{folder.name}.py").exists() or (HERE / folder.name).is_dir()


@system
def test_first_three_commands_of_the_readme_work(run: Run, folder: Path) -> None:
    """Install (which is not tried here), set up, run; what the README shows is printed, twice."""
    install, set_up, demo = blocks(folder, "sh")[0].strip().splitlines()
    assert install.startswith("pip install ")
    for _ in ("first", "again"):
        run("-W", "error", *arguments(set_up), cwd=ROOT)
        printed = run("-W", "error", *arguments(demo), cwd=ROOT)
        for line in blocks(folder, "text")[0].strip().splitlines():
            for words in line.split("..."):
                assert words.strip() in printed, printed


@system
def test_set_up_has_what_the_command_prints(run: Run, folder: Path) -> None:
    """A comment names the command, `-- pgqueue cron sql ...`, and what it prints follows."""
    text = (folder / "setup.sql").read_text("utf-8")
    commands = re.findall(r"^-- (pgqueue cron sql .*)$", text, re.MULTILINE)
    for command in commands:
        printed = run(*arguments(command), cwd=ROOT)
        assert f"-- {command}\n{printed}" in text, f"paste what this prints: {command}"


@system
def test_set_up_run_three_times_ends_the_same(hosted: Hosted, folder: Path) -> None:
    """In a database with pg_cron, by a client that sends the whole script at once."""
    with Client(hosted.dsn) as client:
        client.migrate()
    ends = []
    for _ in range(3):
        for name in ("schema.sql", "setup.sql"):
            if (folder / name).exists():
                with psycopg.connect(hosted.dsn, autocommit=True) as conn:
                    conn.execute((folder / name).read_bytes())
        ends.append([hosted.sql(query) for query in STATE])
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][0]
