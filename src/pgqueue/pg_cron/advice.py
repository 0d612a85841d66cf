"""What to do about errors of pg_cron and pg_net."""

from __future__ import annotations

REFUSED = (401, 403)
"""By these an endpoint says that the secret is wrong."""
_NOT_FOUND = (404, 405, 410)
_REDIRECT = range(300, 400)

_OF_CRON = {
    "connection failed": "pg_cron may not log in: set cron.use_background_workers = on, or let "
    "localhost connect in pg_hba.conf",
    "could not start background process": "raise max_worker_processes, and restart the server",
    "job startup timeout": "raise max_worker_processes, and restart the server",
    "permission denied": "have the schema's owner run: select {schema}.grant_access('{user}', "
    "'cron')",
    "statement timeout": "raise statement_timeout of the role above a minute: alter role {user} "
    "set statement_timeout = '2min'",
    "does not exist": "run `pgqueue migrate`, and then `pgqueue cron verify`",
}
_OF_NET = {
    "out of memory": "pg_net takes too many requests at once, or answers that are too long: lower "
    "pg_net.batch_size, have the endpoint answer briefly, and run: select net.worker_restart()",
    "lost it": "the server crashed, or ran out of memory (see its log); no job is lost, and the "
    "next poke comes by itself",
    "timeout": "give the endpoint fewer jobs a request, or more time: `pgqueue cron install "
    "--timeout`",
    "resolve": "the URL's host is unknown: `pgqueue cron install --url`",
    "connect": "nothing answers at the URL: see that the endpoint is deployed, or give another by "
    "`pgqueue cron install --url`",
}


def of_run(message: str, schema: str, user: str) -> str:
    """What helps against a failed run of pg_cron; empty if its message says all."""
    lower = message.lower()
    found = next((advice for part, advice in _OF_CRON.items() if part in lower), "")
    return found.replace("{schema}", f'"{schema}"').replace("{user}", user)


def of_request(status: int | None, error: str, secret: str | None, *, timed_out: bool) -> str:
    """What helps against a failed request of pg_net."""
    if status in REFUSED:
        if secret is None:
            return "the endpoint wants a secret: `pgqueue cron install --secret NAME`"
        return (
            f"the secret {secret!r} is stale, the endpoint has another: "
            f"`pgqueue cron sync-secret {secret} --from-env VARIABLE`"
        )
    if status in _NOT_FOUND:
        return "the endpoint is not at this URL: `pgqueue cron install --url`"
    if status in _REDIRECT:
        return "pg_net follows no redirects: give the last URL by `pgqueue cron install --url`"
    if status is not None:
        return "see the endpoint's own log"
    lower = "timeout" if timed_out else error.lower()
    return next((advice for part, advice in _OF_NET.items() if part in lower), "")
