"""Starts, finds and stops a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from pgqueue.embedded import _binaries, _config
from pgqueue.embedded._account import Account
from pgqueue.embedded._folder import SHORT, SOCKET_NAME, Folder, own_folder
from pgqueue.errors import EmbeddedServerError

INIT_TIMEOUT = 60.0  # seconds
START_TIMEOUT = 60.0  # seconds; recovery after a crash is part of the start
STOP_TIMEOUT = 30.0  # seconds
LEFTOVERS_TIMEOUT = 10.0  # seconds

# Puts a number that no process has into the pid file. The rest of the file stays: by it Postgres
# notices sessions that outlived their server.
DISOWN = """
cd cluster && { echo 2147483647; tail -n +2 postmaster.pid; } >disowned.pid &&
mv disowned.pid postmaster.pid
"""

# What Postgres says while processes of a killed server are still going away.
LEFTOVERS = ("pre-existing shared memory block", "lock file")

# Nothing of a throw-away server has to survive a crash of the machine.
THROW_AWAY: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off"}

# Deletes a throw-away server's files once standard input ends, as it does too if we are killed.
# A Postgres that runs on without them ends itself within a minute.
SWEEP = 'read -r _; rm -rf -- "$@" || { sleep 1; rm -rf -- "$@"; }'


@frozen
class Server:
    """A server that was running when it was looked at."""

    data: Path
    """The folder with its data, logs and settings."""
    socket_dir: Path
    """The folder with its socket; only the server's user and root can enter."""
    pid: int
    """Its first process."""
    version: int
    """Postgres's major version, 18 say."""

    @property
    def dsn(self) -> str:
        """The URI to connect with, complete: no `PG*` variable adds to it."""
        host = quote(str(self.socket_dir), safe="")
        return f"postgresql://postgres@/postgres?host={host}&port=5432"


def start(
    data: str | Path | None = None,
    *,
    fresh: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Server:
    """Start the server in `data`, made first if there is none, or find it running.

    Any number of processes may call this at once: they get one server. It goes on running when they
    end, until `stop` or the machine ends it; what was committed is still there at the next start.
    A new server takes about a second, an existing one 0.2 s, a running one 1 ms.

    Args:
        data: The server's folder; None for the default one. It must be this user's, and no other
            user may be able to write to it.
        fresh: Throw away all data in it first, stopping the server if it runs.
        settings: Postgres's settings for this start, over pgqueue's own. A running server keeps
            those that it was started with, and the next start without them does not know them.

    Raises:
        EmbeddedServerError: no Postgres is found, it does not start (the message has the end of its
            log), or `data` belongs to another user or another major version.
    """
    folder = Folder.of(data)
    if not fresh and (server := _running(folder)):
        return server
    folder.make()
    with folder.locked():
        if fresh:
            _stop(folder)
            folder.clear()
        elif server := _running(folder):
            return server
        return _start(folder, settings or {})


def stop(data: str | Path | None = None) -> bool:
    """Stop the server in `data`: end its sessions, write everything to disk. False if none ran.

    Raises:
        EmbeddedServerError: it did not stop within `STOP_TIMEOUT` seconds.
    """
    folder = Folder.of(data)
    if not folder.path.exists():
        return False
    folder.make()
    with folder.locked():
        return _stop(folder)


def status(data: str | Path | None = None) -> Server | None:
    """The server in `data` if it accepts connections, else None."""
    return _running(Folder.of(data))


def dsn(data: str | Path | None = None, *, fresh: bool = False) -> str:
    """Start or find the server in `data`, as `start` does, and return the DSN to connect with."""
    return start(data, fresh=fresh).dsn


@contextmanager
def temporary(
    *, settings: Mapping[str, str] | None = None, parent: str | Path | None = None
) -> Iterator[Server]:
    """A private server in a folder of its own, both gone at the end of the block; for tests.

    If this process is killed, they go within a minute. The server does not wait for the disk
    (`fsync=off`) unless `settings` say so.

    Args:
        settings: As in `start`.
        parent: Where to make the folder; None for the usual place, which is TMPDIR, but as root
            /tmp, since the server's user must reach it.

    Raises:
        EmbeddedServerError: as `start` does.
    """
    root = os.geteuid() == 0
    path = Path(tempfile.mkdtemp(prefix="pgqueue-", dir=parent or (SHORT if root else None)))
    if root:
        path.chmod(0o711)
    folder = Folder.of(path)
    with subprocess.Popen(
        ["/bin/sh", "-c", SWEEP, "pgqueue-sweep", folder.path, folder.socket],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ):
        try:
            yield start(path, settings={**THROW_AWAY, **(settings or {})})
        finally:
            _stop(folder, mode="immediate")


def _running(folder: Folder, *, ready: bool = True) -> Server | None:
    """The server whose socket answers; with `ready`, only if it is done with starting."""
    try:
        lines = (folder.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        version = int((folder.cluster / "PG_VERSION").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise EmbeddedServerError(
            f"{folder.path} belongs to another user; run as that user, or choose another folder"
        ) from error
    pid, _, _, _, socket_dir, _, _, state = [*lines, *[""] * 8][:8]
    if (ready and state.strip() != "ready") or not _answers(Path(socket_dir) / SOCKET_NAME):
        return None
    return Server(folder.path, Path(socket_dir), int(pid), version)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except (BlockingIOError, TimeoutError):
            return True  # too busy to accept, so it is there
        except OSError:
            return False
    return True


def _start(folder: Folder, settings: Mapping[str, str]) -> Server:
    _config.write(folder, settings)
    exists = folder.cluster.exists()
    account = Account.owning(folder.cluster) if exists else Account.default()
    programs = _binaries.find(account)
    if exists:
        _check_version(folder, programs)
    else:
        _init(folder, account, programs, sync=settings.get("fsync") != "off")
    own_folder(folder.log, account)
    own_folder(folder.socket, account)
    return _launch(folder, account, programs)


def _check_version(folder: Folder, programs: _binaries.Programs) -> None:
    made_by = int((folder.cluster / "PG_VERSION").read_text(encoding="utf-8"))
    if made_by != programs.version:
        raise EmbeddedServerError(
            f"the data in {folder.path} was made by Postgres {made_by}, and {programs.folder} is "
            f"Postgres {programs.version}; name the programs of version {made_by} in "
            "PGQUEUE_PG_BIN, move the data over with pg_dump, or throw it away with fresh=True"
        )


def _init(folder: Folder, account: Account, programs: _binaries.Programs, *, sync: bool) -> None:
    """Make the cluster under another name first: one that has the right name is complete."""
    for left in folder.drafts():
        shutil.rmtree(left, ignore_errors=True)
    draft = own_folder(folder.path / f"cluster.new-{os.getpid()}", account)
    options = ["-D", draft.name, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
    options += ["--data-checksums", "--no-instructions", *([] if sync else ["--no-sync"])]
    initdb = programs.folder / "initdb"
    done = account.run(initdb, options, cwd=folder.path, timeout=INIT_TIMEOUT)
    if done.returncode != 0:
        raise EmbeddedServerError(
            f"initdb failed in {folder.path} as user {account.uid}: {_last_lines(done.stdout)}\n"
            "Mend what it names; the folder (the argument `data`, or PGQUEUE_HOME) must be one "
            "that this user can reach"
        )
    draft.rename(folder.cluster)


def _launch(folder: Folder, account: Account, programs: _binaries.Programs) -> Server:
    # Names relative to the folder: pg_ctl passes them through a shell without quoting them well.
    options = ["start", "-w", "-t", f"{START_TIMEOUT:.0f}", "-D", "cluster"]
    options += ["-l", "log/startup.log", "-o", f"-c config_file={_config.CONFIG_NAME}"]
    pg_ctl = programs.folder / "pg_ctl"
    deadline = time.monotonic() + LEFTOVERS_TIMEOUT
    while True:
        _disown(folder, account)
        (folder.log / "startup.log").unlink(missing_ok=True)
        done = account.run(pg_ctl, options, cwd=folder.path, timeout=START_TIMEOUT + 10)
        if server := _running(folder):
            return server
        told = _read(folder.log / "startup.log")
        if time.monotonic() > deadline or not any(text in told for text in LEFTOVERS):
            raise EmbeddedServerError(_why_not(folder, f"{told}\n{done.stdout}"))
        time.sleep(0.05)


def _disown(folder: Folder, account: Account) -> None:
    """Free the pid file of a process that is no server.

    Postgres refuses to start as long as there is a process with the number of the last server, also
    if that is the killed server's zombie, which few containers' first process reaps, or any other
    that got the number after a restart of the machine. Without /proc Postgres decides.
    """
    pid = _read(folder.cluster / "postmaster.pid").partition("\n")[0]
    name, _, state = _read(Path("/proc") / pid / "stat").partition("(")[2].rpartition(") ")
    if name and (name != "postgres" or state[0] in "ZX"):
        account.run(Path("/bin/sh"), ["-c", DISOWN], cwd=folder.path, timeout=10)
        (folder.socket / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _why_not(folder: Folder, told: str) -> str:
    if 'lock file "postmaster.pid"' in told:
        advice = (
            "If the process it names is no Postgres (its number was used again after a restart of "
            f"the machine or container), delete {folder.cluster / 'postmaster.pid'}, and try again"
        )
    else:
        advice = "Mend what it names, or throw all its data away with fresh=True"
    logs = sorted(folder.log.glob("postgres-*.log"), key=lambda path: path.stat().st_mtime)
    log = _last_lines(_read(logs[-1])) if logs else ""
    return (
        f"Postgres did not start in {folder.path}:\n{_last_lines(told)}\n"
        f"The end of its log in {folder.log}:\n{log}\n{advice}"
    )


def _stop(folder: Folder, *, mode: str = "fast") -> bool:
    # A pid file alone does not count: pg_ctl would signal whatever process has that number now.
    if _running(folder, ready=False) is None:
        return False
    account = Account.owning(folder.cluster)
    options = ["stop", "-w", "-t", f"{STOP_TIMEOUT:.0f}", "-D", "cluster", "-m", mode]
    pg_ctl = _binaries.find(account).folder / "pg_ctl"
    done = account.run(pg_ctl, options, cwd=folder.path, timeout=STOP_TIMEOUT + 10)
    if done.returncode != 0 and _running(folder, ready=False):
        raise EmbeddedServerError(
            f"Postgres did not stop in {folder.path}: {_last_lines(done.stdout)}\n"
            f"Its log in {folder.log} may say why; try again"
        )
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return ""


def _last_lines(text: str, count: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-count:])
