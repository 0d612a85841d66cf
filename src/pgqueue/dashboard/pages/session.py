"""Log in and out, and the theme."""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from pgqueue.dashboard.guard import Refused
from pgqueue.dashboard.rendering import STATIC
from pgqueue.dashboard.visit import SESSION, THEME, THEMES

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit

_A_YEAR = 365 * 24 * 3600
_FILES = {"app.css", "app.js", "icon.svg"}


def login_form(visit: Visit) -> Response:
    """The page that asks for a name and a token."""
    if visit.user is not None:
        return visit.see(visit.url("overview"))
    if visit.desk.options.auth is not None:
        raise Refused(404, "Not here", "The application that this is part of logs you in.")
    return _asked(visit, back=visit.request.query_params.get("back", ""))


def login(visit: Visit) -> Response:
    """Lets somebody in whose token is right."""
    desk = visit.desk
    if desk.options.auth is not None:
        raise Refused(404, "Not here", "The application that this is part of logs you in.")
    name, token = visit.form.get("name", "")[:200], visit.form.get("token", "")[:1000]
    client = visit.request.client
    address = client.host if client else ""
    wait = max(desk.by_address.begin(address), desk.by_name.begin(name))
    if wait > 0:
        text = f"Too many attempts. Try again in {wait:.0f} s."
        answer = _asked(visit, name, visit.form.get("back", ""), text, 429)
        answer.headers["Retry-After"] = f"{wait:.0f}"
        return answer
    user = desk.options.users.check(name, token)
    if user is None:
        return _asked(visit, name, visit.form.get("back", ""), "Wrong name or token.", 401)
    desk.by_address.forgive(address)
    desk.by_name.forgive(name)
    response = visit.see(visit.back(visit.url("overview")))
    cookie = desk.sessions.begin(desk.options.users[user.name])
    visit.set_cookie(response, SESSION, cookie, int(desk.sessions.lifetime))
    return response


def _asked(
    visit: Visit, name: str = "", back: str = "", problem: str = "", status: int = 200
) -> Response:
    return visit.page("login.html", status, name=name, back=back, problem=problem)


def logout(visit: Visit) -> Response:
    """Ends the session."""
    if visit.session is not None:
        visit.desk.sessions.end(visit.session)
    response = visit.see(visit.url("login" if visit.session else "overview"))
    response.delete_cookie(SESSION, path=visit.cookie_path)
    return response


def theme(visit: Visit) -> Response:
    """Remembers whether pages are light or dark."""
    chosen = visit.form.get("theme")
    response = visit.see(visit.back(visit.url("overview")))
    if chosen in THEMES:
        visit.set_cookie(response, THEME, str(chosen), _A_YEAR)
    return response


def live(visit: Visit) -> Response:
    """A stream that tells what version of the data there is."""
    if visit.over_wsgi or visit.desk.live.full:
        # No content: the browser does not ask for this stream again.
        return Response(status_code=204)
    return StreamingResponse(
        visit.desk.live.events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def static(visit: Visit) -> Response:
    """A file of ours; its name says which version, so it may be kept."""
    name = visit.request.path_params["name"]
    if name not in _FILES:
        return PlainTextResponse("no such file", 404)
    kind = mimetypes.guess_type(name)[0] or "text/plain"
    versioned = "v" in visit.request.query_params
    keep = f"public, max-age={_A_YEAR}, immutable" if versioned else "public, max-age=300"
    return Response((STATIC / name).read_bytes(), media_type=kind, headers={"Cache-Control": keep})


def health(_: Visit) -> Response:
    """For load balancers: that this process answers. The database is not asked."""
    return PlainTextResponse("ok")
