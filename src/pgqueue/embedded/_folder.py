"""Where a server keeps its files, and the lock that lets one process at a time start or stop it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from pgqueue.embedded._account import Account
from pgqueue.errors import EmbeddedServerError

LOCK_TIMEOUT = 150.0  # seconds; longer than the init and the start of another process may take
# Anyone may write to these two: `own_folder` checks what it finds there.
FALLBACK = Path("/var/tmp")  # noqa: S108
SHORT = Path("/tmp")  # noqa: S108
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 103  # bytes; Linux takes 107, macOS 103


def home() -> Path:
    """The folder for everything that no caller named a place for; it exists on return."""
    if named := os.environ.get("PGQUEUE_HOME"):
        return own_folder(Path(named).absolute())
    try:
        usual = _usual_home()
        _make(usual)
    except (OSError, RuntimeError):  # no home, no such home, or a read-only one
        usual = FALLBACK / f"pgqueue-{os.geteuid()}"
    return own_folder(usual)


def _usual_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/pgqueue")
    shared = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(shared).absolute() / "pgqueue"


def own_folder(path: Path, owner: Account | None = None) -> Path:
    """Make `path`, or check that it is a folder of `owner` that nobody else can write to.

    With an `owner` it is private to that user, else it is this process's; then, if that is root,
    others can pass through, since the server's user has to reach its own folders below. A folder
    that exists is never changed, and a symlink is refused: in /tmp anyone could have put it there.

    Raises:
        EmbeddedServerError: it is not such a folder, or cannot be made.
    """
    uid = owner.uid if owner else os.geteuid()
    try:
        _make(path, owner)
        found = path.lstat()
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot make {path}: {error.strerror}; choose another place "
            "(the argument `data`, or PGQUEUE_HOME)"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o022:
        raise EmbeddedServerError(
            f"{path} must be a folder of user {uid} that nobody else can write to, but it is "
            f"{stat.filemode(found.st_mode)} of user {found.st_uid}; remove it, change it, or "
            "choose another place (the argument `data`, or PGQUEUE_HOME)"
        )
    return path


def _make(path: Path, owner: Account | None = None) -> None:
    if not path.parent.exists():
        _make(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    if owner and owner.is_other:
        os.chown(path, owner.uid, owner.gid)
    elif os.geteuid() == 0:
        path.chmod(0o711)


@frozen
class Folder:
    """The files of one server, all below `path`."""

    path: Path

    @classmethod
    def of(cls, data: Path | str | None) -> Folder:
        """The folder named by the caller, or the default one."""
        path = home() / "data" if data is None else Path(data)
        return cls(path.resolve())

    @property
    def cluster(self) -> Path:
        """What Postgres calls its data directory."""
        return self.path / "cluster"

    @property
    def log(self) -> Path:
        """The folder of the server's log files."""
        return self.path / "log"

    @property
    def socket(self) -> Path:
        """The folder of the socket; in /tmp if the data is at a path too long for a socket's."""
        inside = self.path / "socket"
        if len(os.fsencode(inside / SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return SHORT / f"pgqueue-{os.geteuid()}-{digest}"

    def make(self) -> None:
        """Make the folder itself.

        Raises:
            EmbeddedServerError: it cannot be made, or is not ours, or is Postgres's own.
        """
        own_folder(self.path)
        if (self.path / "PG_VERSION").exists():
            raise EmbeddedServerError(
                f"{self.path} is the data directory of another Postgres server; "
                "connect to that server, or choose another folder"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, which every start and stop takes; death gives it back.

        Raises:
            EmbeddedServerError: another process holds it for `LOCK_TIMEOUT` seconds.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self.path / "lock", flags, mode=0o600)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT
            while not _flock(lock):
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"for {LOCK_TIMEOUT:g} s another process has been starting or stopping the "
                        f"server in {self.path}; end it (it holds the file `lock` there), try again"
                    )
                time.sleep(0.02)
            yield
        finally:
            os.close(lock)

    def clear(self) -> None:
        """Delete the data, the logs and the socket; other files in the folder stay."""
        for path in (self.cluster, self.log, self.socket, *self.drafts()):
            if path.exists():
                shutil.rmtree(path)

    def drafts(self) -> list[Path]:
        """What interrupted inits left behind."""
        return list(self.path.glob("cluster.new-*"))


def _flock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
