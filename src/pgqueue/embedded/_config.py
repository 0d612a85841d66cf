"""The server's configuration: written anew at each start, outside the data directory.

As root we write to no folder of the server's user, where a symlink could lead the write elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pgqueue.embedded._folder import Folder
from pgqueue.errors import EmbeddedServerError

CONFIG_NAME = "server.conf"
HBA_NAME = "pg_hba.conf"

# Whoever can enter the socket's folder is its owner or root: nobody has to prove anything.
HBA = "local all all trust\nlocal replication all trust\n"

DEFAULTS: Mapping[str, str] = {
    "cluster_name": "pgqueue",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # For a queue on a small machine that has other things to do.
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "jit": "off",
    # A queue's tables turn over quickly: look at them more often than once a minute.
    "autovacuum_naptime": "15s",
    # One file per day of the week, emptied when its day comes round: a week of logs, never more.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}


def write(folder: Folder, settings: Mapping[str, str]) -> None:
    """Write the configuration of the next start; `settings` win over `DEFAULTS`.

    Raises:
        EmbeddedServerError: a setting has a name that is none, or one that pgqueue decides itself.
    """
    ours = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": _list_item(folder.socket),
        "unix_socket_permissions": "0700",
        "log_directory": str(folder.log),
        "hba_file": str(folder.path / HBA_NAME),
    }
    for name in settings:
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name) or name.lower() in ours:
            raise EmbeddedServerError(
                f"cannot set {name!r} on the embedded server; leave it out, "
                "or run a Postgres of your own and pass its DSN"
            )
    lines = [
        f"{name} = {_quote(value)}\n" for name, value in {**DEFAULTS, **settings, **ours}.items()
    ]
    _write(folder.path / CONFIG_NAME, "".join(lines))
    _write(folder.path / HBA_NAME, HBA)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)  # whatever the umask: the server's user reads it


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def _list_item(path: Path) -> str:
    escaped = str(path).replace('"', '""')
    return f'"{escaped}"'
