"""One request, as the pages see it, and the answers they give."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar
from urllib.parse import urlencode, urlsplit

import attrs
import psycopg
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pgqueue.dashboard import csrf
from pgqueue.dashboard.rendering import static_url
from pgqueue.errors import PermissionDenied, PgqueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgqueue.dashboard.desk import Desk
    from pgqueue.dashboard.sessions import Session
    from pgqueue.dashboard.users import User
    from pgqueue.operations import Pause

T = TypeVar("T")

FLASH, THEME, SESSION = "pgqueue_flash", "pgqueue_theme", "pgqueue_session"
THEMES = ("auto", "light", "dark")


class By(TypedDict):
    """Who does something, as `client.operations` takes it."""

    actor: str
    via: str


@attrs.define
class Visit:
    """A request of somebody who may make it."""

    desk: Desk
    request: Request
    user: User | None
    session: Session | None = None
    form: Mapping[str, str] = attrs.field(factory=dict)
    now: datetime = attrs.field(factory=lambda: datetime.now(timezone.utc))

    # Where things are

    @property
    def root(self) -> str:
        """The path below which the dashboard is, without a slash at its end."""
        root: str = self.request.scope.get("root_path", "")
        return root.rstrip("/")

    def url(self, name: str, /, query: Mapping[str, object] | None = None, **path: object) -> str:
        """The path of a page, with what in `query` is neither None nor empty."""
        found = self.desk.router.url_path_for(name, **path)
        given = {k: v for k, v in (query or {}).items() if v not in (None, "", ())}
        return f"{self.root}{found}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    @property
    def here(self) -> str:
        """This page with its query."""
        url = self.request.url
        return url.path + (f"?{url.query}" if url.query else "")

    def back(self, fallback: str) -> str:
        """Where the form says to go on: a page of ours, whatever it says."""
        wanted = self.form.get("back", "")
        parts = urlsplit(wanted)
        ours = wanted.startswith(f"{self.root}/") and not wanted.startswith(("//", "/\\"))
        clean = wanted.isprintable() and "\\" not in wanted
        return wanted if ours and clean and not parts.netloc and not parts.scheme else fallback

    # Who asks

    @property
    def operates(self) -> bool:
        """Whether the user may act."""
        return self.user is not None and self.user.operates

    @property
    def subject(self) -> str:
        """Whom the token of a form is for."""
        if self.session is not None:
            return f"session:{self.session.number}"
        return f"user:{self.user.name}" if self.user is not None else "nobody"

    @property
    def over_wsgi(self) -> bool:
        """Whether a stream would keep a thread of the server busy."""
        return "wsgi_environ" in self.request.scope

    @property
    def secure(self) -> bool:
        """Whether cookies are for HTTPS alone."""
        forced = self.desk.options.secure
        return self.request.url.scheme == "https" if forced is None else forced

    # What is asked of the database

    def read(self, look: Callable[[Any], T]) -> T:
        """See `Database.read`."""
        return self.desk.database.read(look)

    def write(self, act: Callable[[Any], T]) -> T:
        """See `Database.write`."""
        return self.desk.database.write(act)

    def perhaps(self, look: Callable[[Any], T]) -> T | None:
        """What `look` finds, or None where this role may not, or it takes too long."""
        try:
            return self.read(look)
        except (PermissionDenied, psycopg.errors.QueryCanceled):
            return None

    @property
    def version(self) -> str:
        """Of what there is to see, from before it was read."""
        return self.desk.live.version.get().value

    @property
    def stopped(self) -> Pause | None:
        """Whether all automatic processing is paused."""
        try:
            return self.desk.paused.get().value
        except (PgqueueError, psycopg.Error):
            return None

    @property
    def by(self) -> By:
        """Who acts, for the audit log."""
        return By(actor=self.user.name if self.user else "nobody", via="dashboard")

    # Answers

    def page(self, template: str, status: int = 200, **context: Any) -> Response:  # noqa: ANN401
        """A page."""
        nonce: str = self.request.scope.setdefault("pgqueue.nonce", secrets.token_urlsafe(16))
        theme = self.request.cookies.get(THEME)
        html = self.desk.templates.get_template(template).render(
            visit=self,
            user=self.user,
            operates=self.operates,
            url=self.url,
            asset=lambda name: f"{self.root}/static/{static_url(name)}",
            csrf=csrf.token(self.desk.signer, self.subject),
            nonce=nonce,
            theme=theme if theme in THEMES else "auto",
            flash=self._flash(),
            title=self.desk.options.title,
            live="poll" if self.over_wsgi else "stream",
            **context,
        )
        response = HTMLResponse(html, status)
        if FLASH in self.request.cookies and not self.request.headers.get("x-live"):
            response.delete_cookie(FLASH, path=self.cookie_path)
        return response

    def see(self, url: str, said: str = "", tone: str = "done") -> Response:
        """Sends the browser to another page, which begins with what is `said`."""
        response = RedirectResponse(url, 303)
        if said:
            value = self.desk.signer.sign("flash", [tone, said[:600]])
            self.set_cookie(response, FLASH, value, max_age=60)
        return response

    @property
    def cookie_path(self) -> str:
        """For which paths the cookies are."""
        return self.root or "/"

    def set_cookie(self, response: Response, name: str, value: str, max_age: int) -> None:
        """Sets a cookie that no script reads and no other site sends."""
        response.set_cookie(
            name, value, max_age=max_age, path=self.cookie_path,
            secure=self.secure, httponly=True, samesite="lax",
        )  # fmt: skip

    def _flash(self) -> tuple[str, str] | None:
        said = self.request.cookies.get(FLASH)
        match self.desk.signer.verify("flash", said) if said else None:
            case [str(tone), str(text)]:
                return tone, text
            case _:
                return None
