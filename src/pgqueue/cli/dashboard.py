"""`dashboard` and `dashboard-user`: the pages of operators, and who may see them."""

from __future__ import annotations

import os
import secrets
import sys
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from pgqueue.cli import output, params
from pgqueue.cli.command import Command
from pgqueue.cli.session import Session, pass_session
from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from pgqueue.dashboard.users import Role

USERS, SECRET = "PGQUEUE_DASHBOARD_USERS", "PGQUEUE_DASHBOARD_SECRET"
_EXTRA = "the dashboard needs more packages: pip install 'pgqueue-jobs[dashboard]'"


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8090,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port; 0 takes any that is free.",
)
@click.option(
    "--users",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"A file of lines that dashboard-user made. [env: {USERS} has the lines]",
)
@click.option("--title", default="pgqueue", help="The name at the top.")
@click.option("--root-path", default="", help="The path below which a proxy has it, e.g. /queue.")
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help="The origin that browsers see, where a proxy changes the Host header.",
)
@click.option(
    "--trust-proxy",
    default="127.0.0.1",
    show_default=True,
    help="Addresses of proxies whose X-Forwarded headers count.",
)
@click.option(
    "--session",
    "lifetime",
    type=params.positive_duration,
    default="12h",
    show_default=True,
    help="How long a login lasts.",
)
@click.option("--hide-payloads", is_flag=True, help="Show *** for what payloads say.")
@pass_session
def dashboard(
    session: Session, *, host: str, port: int, users: Path | None, title: str, root_path: str,
    origins: tuple[str, ...], trust_proxy: str, lifetime: timedelta, hide_payloads: bool,
) -> None:  # fmt: skip
    """Serve pages that show the queue and mend it.

    Without users it lets in whoever has the link that it prints, and listens on this machine only.
    With several processes, or to keep logins over a restart, set PGQUEUE_DASHBOARD_SECRET.
    """
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from pgqueue.dashboard import Dashboard, hide_payload  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{_EXTRA} ({error.name} is missing)") from None
    lines = _lines(users)
    link = ""
    if not lines:
        lines, link = _for_this_run(host)
    made = Dashboard(
        session.find(),
        schema=session.schema,
        users=lines,
        secret=os.environ.get(SECRET) or None,
        title=title,
        origins=origins,
        session=lifetime,
        redact=hide_payload if hide_payloads else None,
    )
    config = uvicorn.Config(
        made, host=host, port=port, root_path=root_path, log_level="warning",
        forwarded_allow_ips=trust_proxy, server_header=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    socket = config.bind_socket()
    socket.listen(100)  # who follows the link at once waits until it is served
    shown = f"[{host}]" if ":" in host else host
    output.say(f"http://{shown}:{socket.getsockname()[1]}{root_path}/{link}")
    sys.stdout.flush()
    with made:
        uvicorn.Server(config).run(sockets=[socket])


def _lines(users: Path | None) -> list[str]:
    if users is None:
        return os.environ.get(USERS, "").splitlines()
    try:
        return users.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {users}: {error}") from error


def _for_this_run(host: str) -> tuple[list[str], str]:
    """A user of this run only, and the end of the link that logs in as that one."""
    from pgqueue.dashboard import user_line  # noqa: PLC0415 - an extra

    if not _is_local(host):
        raise ConfigurationError(
            f"nobody is known who may see the dashboard, and {host} can be reached from "
            "elsewhere; make users with `pgqueue dashboard-user NAME`, and pass their lines with "
            f"--users FILE or in {USERS}"
        )
    token = secrets.token_urlsafe(24)
    # Browsers do not send what stands behind a #, so no log has it.
    return [user_line("local", token, "operator")], f"login#name=local&token={token}"


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@click.command("dashboard-user", cls=Command)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["viewer", "operator"]),
    default="viewer",
    show_default=True,
    help="An operator also retries, cancels, pauses and edits.",
)
@click.option("--ask", is_flag=True, help="Ask for the token, instead of making one.")
@pass_session
def dashboard_user(session: Session, *, name: str, role: str, ask: bool) -> None:
    """Make a line that lets NAME into the dashboard, with a new token.

    The line goes to standard output; it has a hash of the token only. The token is shown once.
    """
    try:
        from pgqueue.dashboard.users import user_line  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{_EXTRA} ({error.name} is missing)") from None
    token = (
        click.prompt("Token", hide_input=True, confirmation_prompt=True, err=True)
        if ask
        else secrets.token_urlsafe(24)
    )
    line = user_line(name, token, cast("Role", role))
    if not ask:
        click.echo(f"pgqueue: the token of {name} is {token}", err=True)
    output.answer(session.json, {"name": name, "role": role, "line": line}, line)
