"""Who types: what the audit log says."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TypedDict

ACTOR = "PGQUEUE_ACTOR"
"""Names who it is, where the system's user does not."""


class Who(TypedDict):
    """Two arguments of operations."""

    actor: str
    via: str


def whoami() -> Who:
    """The arguments `actor` and `via` of operations: PGQUEUE_ACTOR, or user@host."""
    name = os.environ.get(ACTOR)
    if not name:
        try:
            name = f"{getpass.getuser()}@{socket.gethostname()}"
        except (KeyError, OSError):  # an account without a name
            name = f"{os.getuid()}@{socket.gethostname()}"
    return {"actor": name[:200], "via": "cli"}
