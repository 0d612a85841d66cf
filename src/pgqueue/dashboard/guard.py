"""What stands before each page: who asks, whether they may, and what became of what went wrong."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

import attrs
import psycopg
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from pgqueue import errors
from pgqueue.dashboard import csrf
from pgqueue.dashboard.users import User
from pgqueue.dashboard.visit import SESSION, Visit
from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from pgqueue.dashboard.desk import Desk

logger = logging.getLogger("pgqueue.dashboard")

MOST_FORM = 2**20
"""Bytes; a schedule's payload may be in it."""
Needs = Literal["nobody", "viewer", "operator"]


class Refused(Exception):
    """A page that cannot be shown, with what to say instead."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text


@attrs.frozen
class Guarded:
    """A view behind these checks."""

    desk: Desk
    view: Callable[[Visit], Response]
    needs: Needs

    async def answer(self, request: Request) -> Response:
        """Answers a request."""
        visit = Visit(self.desk, request, None)
        try:
            await _know(visit)
            if request.method not in ("GET", "HEAD"):
                await self._check_form(visit)
            self._check_role(visit)
        except Refused as refused:
            return _refusal(visit, refused)
        if visit.user is None and self.needs != "nobody":
            return _to_login(visit)
        return await run_in_threadpool(self._answer, visit)

    async def _check_form(self, visit: Visit) -> None:
        reason = csrf.foreign(visit.request, self.desk.options.origins)
        if reason:
            logger.warning("refused a form that is not from a page of ours: %s", reason)
            raise Refused(403, "Not from this dashboard", f"The request was refused: {reason}.")
        visit.form = await _form(visit.request)
        given = visit.form.get(csrf.FIELD, "")
        if self.needs == "nobody" or visit.user is None:
            return
        if not csrf.token_fits(self.desk.signer, visit.subject, given):
            raise Refused(
                403, "This page is out of date",
                "Its form is of another session, so nothing was done. Go back, reload the page "
                "and try again. (Where several processes serve the dashboard, all need the same "
                "secret.)",
            )  # fmt: skip

    def _check_role(self, visit: Visit) -> None:
        if self.needs == "operator" and visit.user is not None and not visit.operates:
            raise Refused(
                403, "Only for operators",
                f"{visit.user.name} may look at everything here, but not act. Nothing was done.",
            )  # fmt: skip

    def _answer(self, visit: Visit) -> Response:
        try:
            return self.view(visit)
        except Refused as refused:
            return _refusal(visit, refused)
        except Exception as error:
            explained = _explained(error)
            if explained is None:
                raise
            if explained.status >= 500:  # noqa: PLR2004 - the server's side
                logger.warning("%s: %s", explained.title, error)
            return _refusal(visit, explained)


async def _know(visit: Visit) -> None:
    """Finds out who asks."""
    options = visit.desk.options
    if options.auth is not None:
        found: Any = await _asked(options.auth, visit.request)
        if found is not None and not isinstance(found, User):
            raise ConfigurationError(
                f"auth returned a {type(found).__name__}; return a pgqueue.dashboard.User or None"
            )
        visit.user = found
        return
    cookie = visit.request.cookies.get(SESSION, "")
    visit.session = visit.desk.sessions.read(cookie, options.users) if cookie else None
    if visit.session is not None:
        visit.user = options.users[visit.session.name].user


async def _asked(auth: Callable[[Request], Any], request: Request) -> Any:  # noqa: ANN401
    if inspect.iscoroutinefunction(auth):
        return await auth(request)
    found = await run_in_threadpool(auth, request)
    return await found if inspect.isawaitable(found) else found


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; of several of one name the last."""
    content = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content not in ("application/x-www-form-urlencoded", ""):
        raise Refused(415, "Not a form", "Send application/x-www-form-urlencoded.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM:
            raise Refused(413, "Too much", f"A form may have {MOST_FORM:,} bytes.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise Refused(400, "Not a form", "The form cannot be read.") from None
    return dict(pairs)


def _to_login(visit: Visit) -> Response:
    options = visit.desk.options
    if visit.request.headers.get("x-live"):
        return PlainTextResponse("logged out", 401)
    if options.auth is None:
        here = visit.here if visit.request.method == "GET" else ""
        return RedirectResponse(visit.url("login", {"back": here}), 303)
    if options.login_url:
        return RedirectResponse(options.login_url, 303)
    refused = Refused(403, "Not for you", "The application that this is part of lets you not in.")
    return _refusal(visit, refused)


def _refusal(visit: Visit, refused: Refused) -> Response:
    return visit.page(
        "refusal.html",
        refused.status,
        heading=refused.title,
        text=refused.text,
        retry=refused.status in (503, 504) and visit.request.method == "GET",
        back=visit.back(visit.url("overview")),
    )


def _explained(error: Exception) -> Refused | None:  # noqa: C901, PLR0911 - one for each kind of error
    """What an error means to who looks; None: it is one of ours."""
    match error:
        case errors.DatabaseUnavailable():
            return Refused(
                503, "The database cannot be reached",
                "Jobs are safe: they are rows in it. Workers wait until it is back, and so does "
                "this page, which looks again every few seconds.",
            )  # fmt: skip
        case psycopg.errors.QueryCanceled():
            return Refused(
                504, "This took too long",
                "The database did not answer in time, and was told to stop. Narrow the filter (a "
                "queue, a state, a shorter time), or see the doctor's page for what holds it up.",
            )  # fmt: skip
        case errors.PermissionDenied() | psycopg.errors.ReadOnlySqlTransaction():
            return Refused(
                403, "The database does not permit this",
                f"{error}. Nothing was done. The dashboard's own role may read only; connect it as "
                "one with grant_access(..., 'worker') to act here.",
            )  # fmt: skip
        case errors.SchemaError():
            return Refused(503, "pgqueue is not as it should be in this database", f"{error}.")
        case errors.JobNotFound() | errors.ScheduleNotFound():
            return Refused(404, "Not here", f"{error}.")
        case errors.FilterTooBroad():
            return Refused(504, "This took too long", f"{error}.")
        case errors.JobError():
            return Refused(409, "The job has changed meanwhile", f"{error}. Nothing was done.")
        case errors.InvalidJob():
            return Refused(422, "This cannot be", f"{error}.")
        case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected():
            return Refused(
                409, "Somebody else is at it",
                "Another transaction keeps these rows locked. Nothing was done; try again.",
            )  # fmt: skip
        case psycopg.Error() | errors.DatabaseError():
            return Refused(
                503, "The database refused", f"{type(error).__name__}; the server's log has more."
            )
        case _:
            return None
