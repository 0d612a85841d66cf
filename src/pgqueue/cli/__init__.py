"""The command `pgqueue`: see docs/cli.md. Needs the extra `cli`."""

from __future__ import annotations

import sys

_NEEDED = ("click", "rich")
_USAGE = 2
_INTERRUPTED = 130


def main() -> int:
    """Runs the command line of this process and returns its exit code (`pgqueue.cli.exits`)."""
    try:
        from pgqueue.cli import app  # noqa: PLC0415 - click and rich are optional
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        print(
            f"pgqueue: the command line needs {' and '.join(_NEEDED)}; "
            "install pgqueue's extra `cli`: pip install 'pgqueue-jobs[cli]'",
            file=sys.stderr,
        )
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return app.run()
