"""Every error is one line on stderr and an exit code."""

from __future__ import annotations

import importlib
import io
import logging
import subprocess
import sys

import click
import psycopg
import pytest
from click.testing import CliRunner

from pgqueue import Client, DatabaseUnavailable
from pgqueue.bench import command
from pgqueue.cli import confirm
from pgqueue.cli.app import app
from pgqueue.cli.exits import Exit
from pgqueue.masking import masked

from .conftest import Run, invoke

COMMANDS = [
    ("migrate",),
    ("migrate", "--check"),
    ("migrate", "--sql", "--from-installed"),
    ("grant", "someone", "viewer"),
    ("enqueue", "mail"),
    ("enqueue", "mail", "-", "--lines"),
    ("jobs",),
    ("job", "1"),
    ("job", "1", "--wait", "1s"),
    ("retry", "1"),
    ("redrive",),
    ("cancel", "1"),
    ("cancel", "--ref", "x"),
    ("stats",),
    ("pause", "default"),
    ("pause", "default", "--until", "5m"),
    ("resume", "default"),
    ("purge", "default", "--dry-run"),
    ("purge", "default", "--yes"),
    ("maintain",),
    ("maintain", "--every", "1s"),
    ("scheduler",),
    ("schedules",),
    ("schedule", "add", "s", "k", "--every", "1h"),
    ("schedule", "show", "s"),
    ("schedule", "run", "s"),
    ("schedule", "enable", "s"),
    ("schedule", "disable", "s"),
    ("schedule", "remove", "s"),
    ("schedule", "preview", "s"),
    ("worker", "tests_cli_no_jobs:handlers", "--drain"),
]


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with handlers, without a file."""
    from types import ModuleType  # noqa: PLC0415

    from pgqueue import Handlers  # noqa: PLC0415

    module = ModuleType("tests_cli_no_jobs")
    handlers = Handlers()
    handlers.register("mail")(print)
    vars(module)["handlers"] = handlers
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_unavailable_database_is_exit_3(no_server: str, command: tuple[str, ...]) -> None:
    """Wherever it is noticed; the password is never shown, the place is."""
    done = invoke("--dsn", no_server, *command, stdin="1")
    assert done.code == Exit.UNAVAILABLE
    last = done.err.splitlines()[-1]
    assert last.startswith("pgqueue: the database cannot be reached: ")
    assert last.endswith("(database nowhere at /nonexistent)")
    assert "failed: No such file or directory; check the DSN, and that the server is up" in last
    assert "hush" not in done.err


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c[0] not in ("migrate", "grant")], ids=" ".join
)
def test_missing_schema_is_exit_4(run: Run, command: tuple[str, ...]) -> None:
    """The message says what to do."""
    done = run("--schema", "missing", *command, stdin="1")
    assert done.code == Exit.SCHEMA
    assert "pgqueue is not installed in schema 'missing'" in done.err
    assert "`pgqueue migrate`" in done.err


def test_outdated_schema_is_exit_4(run: Run, pgqueue_dsn: str) -> None:
    """A function that is missing is noticed by the first command that needs it."""
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("drop function pgqueue.stats")
        conn.execute("update pgqueue.migration set checksum = 'old' where version = 0")
    done = run("stats")
    assert done.code == Exit.SCHEMA
    assert "or its functions are another version's" in done.err


def test_schema_error_of_unknown_cause_is_passed_on(run: Run, pgqueue_dsn: str) -> None:
    """If the versions are right and something is missing all the same, the first error is shown."""
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("drop function pgqueue.stats")
    done = run("stats")
    assert done.code == Exit.SCHEMA
    assert "pgqueue.stats() does not exist" in done.err


def test_schema_error_stands_if_the_role_cannot_look(run: Run, pgqueue_dsn: str, role: str) -> None:
    """Some may not read the versions."""
    run("grant", role, "worker")
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("drop function pgqueue.resume")
        conn.execute(f"revoke select on pgqueue.migration from {role}".encode())
    as_role = psycopg.conninfo.make_conninfo(pgqueue_dsn, user=role)
    assert invoke("--dsn", as_role, "resume", "default").code == Exit.SCHEMA


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres//u:hush-hush@host/db",
        "host=x password=hush-hush bad",
        "host=x password='hush-hush",
        "postgresql://u:hush hush@host/db",
        "nonsense",
    ],
)
@pytest.mark.parametrize("where", ["option", "variable"])
def test_dsn_that_cannot_be_parsed_keeps_its_password(dsn: str, where: str) -> None:
    """Not even the part of it that the parser stumbled over is shown, nor in a traceback."""
    if where == "option":
        args, env, name = ["--dsn", dsn, "jobs"], {}, "--dsn"
    else:
        args, env, name = ["jobs"], {"PGQUEUE_DSN": dsn}, "PGQUEUE_DSN"
    done = invoke(*args, env=env)
    assert done.code == Exit.USAGE
    assert f"the DSN in {name} cannot be parsed" in done.err
    assert "or as 'host=localhost dbname=app'; see" in done.err
    debugged = CliRunner().invoke(app, args, env={**env, "PGQUEUE_DEBUG": "1"})
    assert "Traceback" in debugged.stderr
    assert "hush" not in done.err + debugged.stderr


def test_traceback_is_shown_on_request(no_server: str) -> None:
    """With -vv, and without the password."""
    done = CliRunner().invoke(app, ["--dsn", no_server, "jobs", "-vv"])
    assert done.exit_code == Exit.UNAVAILABLE
    assert "Traceback (most recent call last)" in done.stderr
    assert "hush" not in done.stderr


@pytest.mark.parametrize(
    "args,why",
    [
        (("nonsense",), "no such command 'nonsense'"),
        (("--nonsense",), "no such option '--nonsense'"),
        (("jobs", "--nonsense"), "see `pgqueue jobs --help`"),
        (("jobs", "surplus"), "unexpected extra argument"),
        (("--schema", "pg_x", "jobs"), "cannot be pgqueue's schema"),
        (("--schema", 'a"b', "jobs"), "cannot be pgqueue's schema"),
    ],
)
def test_wrong_usage_is_exit_2(no_server: str, args: tuple[str, ...], why: str) -> None:
    """Nothing is connected to."""
    done = invoke("--dsn", no_server, *args)
    assert done.code == Exit.USAGE
    assert done.err.startswith("pgqueue: ")
    assert why in done.err


def test_other_errors_of_the_database_are_exit_9(run: Run, pgqueue_dsn: str) -> None:
    """Such as a statement that takes too long; the SQLSTATE is named."""
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        name = conn.info.dbname
        conn.execute(f'alter database "{name}" set statement_timeout = 1'.encode())
        conn.execute("begin; lock table pgqueue.job")
        done = run("stats")
        conn.execute("rollback")
    assert done.code == Exit.DATABASE
    assert "SQLSTATE 57014" in done.err


def test_error_of_ours_is_exit_70(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called by its name, and asks to be looked at more closely."""

    def stats(_: Client) -> None:
        raise ZeroDivisionError("never\nmind")

    monkeypatch.setattr(Client, "stats", stats)
    done = run("stats")
    assert done.code == Exit.INTERNAL
    assert done.err == (
        "pgqueue: an error in pgqueue: ZeroDivisionError: never mind; -vv shows the traceback\n"
    )


def test_ctrl_c_is_exit_130_without_a_word(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the end of the line that ^C stands on."""

    def stats(_: Client) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "stats", stats)
    done = run("stats")
    assert (done.code, done.err.strip()) == (Exit.INTERRUPTED, "")


def test_ctrl_c_at_a_question_is_exit_130(
    run: Run, pgqueue_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As anywhere else: it is no answer."""

    def interrupted(*_: object, **__: object) -> bool:
        try:
            raise KeyboardInterrupt  # noqa: TRY301 - and this as Python does
        except KeyboardInterrupt:
            raise click.Abort from None  # as click does

    pgqueue_client.enqueue("mail")
    monkeypatch.setattr(click, "confirm", interrupted)
    monkeypatch.setattr(confirm, "_has_terminal", lambda: True)
    done = run("purge", "default")
    assert (done.code, done.err.strip()) == (Exit.INTERRUPTED, "")


def test_help_instead_of_a_missing_command() -> None:
    """As usage, so that a script notices."""
    done = invoke()
    assert done.code == Exit.USAGE
    assert "Queues:" in done.out
    assert invoke("server").code == Exit.USAGE
    assert invoke("--help").code == Exit.OK


def test_version_names_what_a_bug_report_needs() -> None:
    """Pgqueue, Python and the driver."""
    done = invoke("--version")
    assert done.code == Exit.OK
    assert done.out.startswith("pgqueue 0.")
    assert "psycopg 3" in done.out


def test_common_options_stand_anywhere(run: Run, pgqueue_client: Client) -> None:
    """Before the command or after it."""
    pgqueue_client.enqueue("mail")
    before, after = run("--json", "jobs"), run("jobs", "--json")
    assert before.out == after.out
    assert before.lines[0]["id"] == 1


@pytest.mark.parametrize(
    "verbose,level", [((), "WARNING"), (("-v",), "INFO"), (("-v", "-v"), "DEBUG")]
)
def test_log_goes_to_stderr(
    no_server: str, verbose: tuple[str, ...], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of it with each -v, and without escape sequences."""

    def stats(_: Client) -> list[object]:
        for name in ("DEBUG", "INFO", "WARNING"):
            logging.getLogger("pgqueue.test").log(getattr(logging, name), "level %s \x1b[1m", name)
        return []

    monkeypatch.setattr(Client, "stats", stats)
    done = CliRunner().invoke(app, ["--dsn", no_server, *verbose, "stats"])
    shown = [line.split()[4] for line in done.stderr.splitlines() if " level " in line]
    expected = ["DEBUG", "INFO", "WARNING"]
    assert shown == expected[expected.index(level) :]
    assert "\x1b" not in done.stderr


def test_missing_extra_is_one_clear_line() -> None:
    """Without click or rich the entry point says what to install."""
    for missing in ("click", "rich"):
        script = (
            "import sys\n"
            f"sys.modules[{missing!r}] = None\n"
            "from pgqueue.cli import main\n"
            "sys.exit(main())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=20
        )
        assert done.returncode == Exit.USAGE
        assert "extra `cli`" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_during_the_start_is_silent() -> None:
    """Python is slow to start, and some are quick to regret."""
    script = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'pgqueue.cli.app': raise KeyboardInterrupt\n"
        "from pgqueue.cli import main\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr) == (Exit.INTERRUPTED, "")


def test_output_may_be_anything_that_takes_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a test's."""
    module = importlib.import_module("pgqueue.__main__")  # which does nothing by itself
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["pgqueue", "--version"])
    assert module.main() == Exit.OK
    assert out.getvalue().startswith("pgqueue ")


def test_short_password_is_hidden_where_it_looks_like_one() -> None:
    """But not in every word that has its letters."""
    for dsn in ("postgresql://u:e@h/d", "host=h password=e", "host=h password='e'"):
        text = masked(f"never mind: {dsn}", dsn)
        assert text.startswith("never mind: ")
        assert "***" in text
        assert ":e@" not in text
        assert "=e" not in text


def test_place_is_left_out_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the server that a benchmark starts for itself."""

    def bench(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("it is gone")

    monkeypatch.setattr(command, "bench", bench)
    assert invoke("bench").err == "pgqueue: it is gone\n"


def test_other_missing_modules_are_not_mistaken_for_it() -> None:
    """A broken installation is shown as it is."""
    script = (
        "import sys\nsys.modules['pgqueue.cli.app'] = None\nfrom pgqueue.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=20
    )
    assert "ModuleNotFoundError" in done.stderr
