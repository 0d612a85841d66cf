"""`pgqueue dashboard` and `dashboard-user`."""

from __future__ import annotations

import re
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner
from tests.cli.conftest import invoke

from pgqueue.cli.app import app
from pgqueue.dashboard import User, Users


def test_user_line_lets_in_whoever_has_the_token() -> None:
    """The token is on stderr, once; the line has its hash."""
    ran = invoke("dashboard-user", "ada", "--role", "operator")
    found = re.search(r"token of ada is (\S+)", ran.err)
    assert found is not None
    assert found[1] not in ran.out
    assert Users([ran.out.strip()]).check("ada", found[1]) == User("ada", "operator")


def test_token_may_be_asked_for() -> None:
    """Then it is not shown, and a short one is refused."""
    typed = "long-enough-token\n" * 2
    ran = CliRunner().invoke(app, ["dashboard-user", "vic", "--ask"], input=typed)
    line = ran.stdout.strip().splitlines()[-1]
    assert "long-enough-token" not in ran.output
    assert Users([line]).check("vic", "long-enough-token") == User("vic", "viewer")


def test_other_addresses_need_users() -> None:
    """Nothing is served to a network where nobody is known."""
    ran = invoke("--dsn", "dbname=x", "dashboard", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - refused
    assert ran.code == 2
    assert "dashboard-user NAME" in ran.err


def test_file_that_is_not_there_is_said_to_be() -> None:
    """As a wrong option."""
    ran = invoke("--dsn", "dbname=x", "dashboard", "--users", "/nonexistent")
    assert ran.code == 2
    assert "cannot read /nonexistent" in ran.err


@pytest.mark.timeout(90)
def test_it_serves_until_it_is_told_to_end(pgqueue_dsn: str) -> None:
    """The link that it prints leads to a login, and whoever follows it is let in."""
    args = [sys.executable, "-m", "pgqueue", "dashboard", "--dsn", pgqueue_dsn, "--port", "0"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        try:
            assert run.stdout is not None
            link = run.stdout.readline().strip()
            found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/login#name=local&token=(\S+)", link)
            assert found is not None, link
            url, token = found.groups()
            with httpx.Client(base_url=url, trust_env=False, timeout=20) as browser:
                assert browser.get("/").headers["location"] == "/login?back=%2F"
                done = browser.post(
                    "/login", data={"name": "local", "token": token}, headers={"Origin": url}
                )
                assert done.status_code == 303
                assert "All is well" in browser.get("/").text
            run.terminate()
            run.wait(30)
            assert "Traceback" not in run.stdout.read()
        finally:
            run.kill()
