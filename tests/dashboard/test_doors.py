"""Who is let in, what they may do, and what forms are believed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from starlette.requests import Request
from tests.dashboard.conftest import OPERATOR, VIEWER, Browser, Make, token

from pgqueue import Client, ConfigurationError
from pgqueue.dashboard import Dashboard, User, Users, user_line
from pgqueue.dashboard.sessions import Sessions, Signer
from pgqueue.dashboard.throttle import Throttle

TOKEN = "correct-horse-battery"  # noqa: S105 - of a test


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """An operator and a viewer."""
    return [user_line("ada", TOKEN, "operator"), user_line("vic", TOKEN)]


def _login(browser: Browser, name: str = "ada", given: str = TOKEN, **more: str) -> int:
    answer = browser.post("/login", {"name": name, "token": given, **more}, page="/login")
    return answer.status_code


@pytest.mark.parametrize(
    "options",
    [
        {}, {"users": []}, {"users": ["# nobody", ""]}, {"users": "ada:operator"},
        {"users": ["ada:operator:plain"]}, {"users": [user_line("a", TOKEN)] * 2},
        {"auth": lambda _: None, "users": [user_line("a", TOKEN)]}, {"auth": "ada"},
        {"auth": lambda _: None, "secret": "short"},
        {"auth": lambda _: None, "origins": ["ops.example.org"]},
    ],
)  # fmt: skip
def test_nothing_is_served_that_anybody_could_see(client: Client, options: dict[str, str]) -> None:
    """Without users and without a rule of the application there is no dashboard."""
    with pytest.raises(ConfigurationError):
        Dashboard(client, **options)  # type: ignore[arg-type]


def test_nobody_sees_anything_without_a_login(make: Make, lines: list[str]) -> None:
    """Each page leads to the login, and actions do nothing."""
    browser = make(users=lines)
    for path in ("/", "/jobs", "/jobs/1", "/queues", "/schedules", "/workers", "/audit",
                 "/doctor", "/live", "/jobs/bulk?action=retry"):  # fmt: skip
        answer = browser.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login"), path
    assert browser.post("/pause-all", page="/login").headers["location"] == "/login"


def test_login_leads_back_and_logout_ends_it(make: Make, lines: list[str]) -> None:
    """The cookie is for us alone, and is worth nothing after the logout."""
    browser = make(users=lines, secret="x" * 32)
    answer = browser.post(
        "/login", {"name": "ada", "token": TOKEN, "back": "/jobs?state=dead"}, page="/login"
    )
    assert answer.headers["location"] == "/jobs?state=dead"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert browser.get("/jobs").status_code == 200
    kept = dict(browser.cookies)
    browser.post("/logout")
    browser.cookies.update(kept)
    assert browser.get("/jobs").status_code == 303


def test_cookies_are_for_https_where_that_is_used(make: Make, lines: list[str]) -> None:
    """Secure by the scheme of the request, or as told."""
    browser = make(users=lines)
    browser.base = "https://queue.test"
    answer = browser.post("/login", {"name": "ada", "token": TOKEN}, page="/login")
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "back", ["//evil.test", "https://evil.test/", "/\\evil.test", "javascript:alert(1)", "/\tx"]
)
def test_login_leads_nowhere_else(make: Make, lines: list[str], back: str) -> None:
    """Whatever the form says."""
    answer = make(users=lines).post(
        "/login", {"name": "ada", "token": TOKEN, "back": back}, page="/login"
    )
    assert answer.headers["location"] == "/"


def test_wrong_name_and_wrong_token_look_alike(make: Make, lines: list[str]) -> None:
    """Neither says which of the two is wrong."""
    browser = make(users=lines)
    answers = [
        browser.post("/login", {"name": name, "token": given}, page="/login").text
        for name, given in (("ada", "wrong-wrong-wrong"), ("bob", TOKEN))
    ]
    texts = [answer.replace('value="ada"', "").replace('value="bob"', "") for answer in answers]
    strip = [text.split("data-login>")[1] for text in texts]
    assert strip[0] == strip[1]
    assert "Wrong name or token" in strip[0]


def test_guessing_is_slowed_down(make: Make, lines: list[str]) -> None:
    """After some failures even the right token has to wait; the answer says for how long."""
    browser = make(users=lines)
    browser.app.desk.by_address = Throttle(burst=2, pause=60)
    assert [_login(browser, given="wrong-wrong-wrong") for _ in range(3)] == [401, 401, 429]
    answer = browser.post("/login", {"name": "ada", "token": TOKEN}, page="/login")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_throttle_lets_one_more_through_after_each_pause() -> None:
    """A burst, then one by one; a success forgives."""
    now = 0.0
    throttle = Throttle(burst=2, pause=10, clock=lambda: now)
    assert [throttle.begin("a") for _ in range(3)] == [0.0, 0.0, 10.0]
    assert throttle.begin("b") == 0.0
    now = 10.0
    assert [throttle.begin("a"), throttle.begin("a")] == [0.0, 10.0]
    throttle.forgive("a")
    assert throttle.begin("a") == 0.0


def test_session_ends_with_its_time_its_token_and_its_signature(lines: list[str]) -> None:
    """A cookie is believed only if all of it is ours, and in time."""
    now = 0.0
    users = Users(lines)
    sessions = Sessions(Signer(b"a" * 32), 60, clock=lambda: now)
    cookie = sessions.begin(users["ada"])
    assert sessions.read(cookie, users)
    renewed = Users([user_line("ada", TOKEN, "operator")])
    assert sessions.read(cookie, renewed) is None
    assert sessions.read(cookie, Users([lines[1]])) is None
    assert Sessions(Signer(b"b" * 32), 60, clock=lambda: now).read(cookie, users) is None
    body, _, signature = cookie.partition(".")
    value = json.loads(base64.urlsafe_b64decode(body + "=="))
    for forged in (["vic", *value[1:]], [*value[:2], 1e12], "x", None, [1, 2, 3]):
        text = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        assert sessions.read(f"{text}.{signature}", users) is None
    for odd in ("", ".", "a.b", "\u00e9.\u00e9", cookie[:-1], cookie + "A", "[" * 5000):
        assert sessions.read(odd, users) is None
    now = 61.0
    assert sessions.read(cookie, users) is None


def test_stored_line_does_not_contain_the_token(lines: list[str]) -> None:
    """Nor does the text of what was read from it."""
    users = Users(lines)
    assert TOKEN not in lines[0] + repr(users["ada"])
    assert users.check("ada", TOKEN) == OPERATOR
    assert users.check("vic", TOKEN) == VIEWER
    for name, given in (("ada", TOKEN[:-1]), ("ada", ""), ("eve", TOKEN), ("", TOKEN)):
        assert users.check(name, given) is None
    with pytest.raises(ConfigurationError, match="12 or more"):
        user_line("ada", "short")
    with pytest.raises(ConfigurationError, match="name"):
        user_line("a:b", TOKEN)


def test_viewer_may_look_but_not_act(client: Client, make: Make) -> None:
    """Each action is refused, with nothing done, though the form is right."""
    number = client.enqueue("k").id
    browser = make(VIEWER)
    assert browser.get("/jobs").status_code == 200
    for path, fields in (
        (f"/jobs/{number}/cancel", {}), ("/pause", {"queue": "default"}), ("/pause-all", {}),
        ("/resume", {"queue": "default"}), ("/jobs/bulk", {"action": "cancel"}),
        ("/schedule-put", {}), ("/schedule-do/run", {"name": "x"}), ("/resume-all", {}),
    ):  # fmt: skip
        answer = browser.post(path, fields, page="/workers")
        assert answer.status_code == 403, path
        assert "Only for operators" in answer.text
    for path in ("/jobs/bulk?action=cancel", "/schedule-new", "/schedule-edit/x"):
        assert browser.get(path).status_code == 403
    assert client.get(number).state == "ready"
    assert client.operations.audit() == []


ROUTES = (
    "/jobs/1/cancel", "/pause", "/resume", "/pause-all", "/resume-all", "/jobs/bulk",
    "/schedule-put", "/schedule-do/run", "/logout", "/theme", "/doctor/examine",
)  # fmt: skip


@pytest.mark.parametrize(
    "headers,csrf",
    [
        ({"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": "http://queue.test.evil.test", "Sec-Fetch-Site": ""}, True),
        ({"Origin": "null", "Sec-Fetch-Site": ""}, True),
        ({"Origin": "http://queue.test:81", "Sec-Fetch-Site": ""}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({}, False),
    ],
)
def test_form_of_another_site_does_nothing(
    client: Client,
    browser: Browser,
    headers: dict[str, str],
    csrf: bool,  # noqa: FBT001
) -> None:
    """Wherever it says that it comes from, and without the token wherever that is."""
    number = client.enqueue("k").id
    for path in ROUTES:
        fields = {} if csrf else {"csrf": "0" * 64}
        answer = browser.post(path, fields, page="/schedule-new", **headers)
        assert answer.status_code == 403, path
    assert client.get(number).state == "ready"
    assert client.operations.audit() == []


def test_request_that_says_nothing_of_its_origin_is_refused(browser: Browser) -> None:
    """No browser sends such a form."""
    answer = browser.ask("POST", "/pause-all", data={"csrf": token(browser.get("/").text)})
    assert answer.status_code == 403


def test_token_of_one_session_is_none_of_another(make: Make, lines: list[str]) -> None:
    """Not even of the same user."""
    one = make(users=lines, secret="x" * 32)
    two = Browser(one.app)
    assert _login(one) == _login(two) == 303
    stolen = token(one.get("/").text)
    assert two.post("/pause-all", {"csrf": stolen}).status_code == 403
    assert one.post("/pause-all").status_code == 303


def test_trusted_origin_is_ours(make: Make) -> None:
    """Where a proxy changes the Host header."""
    browser = make(origins=["https://ops.example.org"])
    answer = browser.post("/pause-all", Origin="https://ops.example.org")
    assert answer.status_code == 303


async def _async_auth(request: Request) -> User | None:
    return OPERATOR if request.headers.get("x-user") else None


def _auth(request: Request) -> User | None:
    return OPERATOR if request.headers.get("x-user") else None


@pytest.mark.parametrize("auth", [_auth, _async_auth])
def test_application_says_who_it_is(make: Make, auth: Callable[..., object]) -> None:
    """By a function, sync or async; nobody else is let in, and there is no login of ours."""
    browser = make(auth=auth)
    assert browser.get("/", headers={"x-user": "1"}).status_code == 200
    assert browser.get("/").status_code == 403
    assert browser.get("/login").status_code == 404
    sent = make(auth=auth, login_url="https://app.test/login").get("/")
    assert sent.headers["location"] == "https://app.test/login"


def test_auth_that_gives_no_user_is_an_error(make: Make) -> None:
    """True is not somebody."""
    with pytest.raises(ConfigurationError, match="return a pgqueue"):
        make(auth=lambda _: True).get("/")


def test_every_answer_has_the_headers_that_fence_it_in(make: Make, lines: list[str]) -> None:
    """Scripts only with this answer's nonce, no frames, nothing from elsewhere, no cache."""
    browser = make(users=lines)
    nonces = set()
    for path in ("/login", "/", "/static/app.js", "/nowhere"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        nonces.add(policy.split("script-src 'nonce-")[1].split("'")[0])
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"]
    assert len(nonces) == 4
    page = browser.get("/login")
    nonce = page.headers["content-security-policy"].split("script-src 'nonce-")[1].split("'")[0]
    assert page.text.count(f'nonce="{nonce}"') == 2
    assert " style=" not in page.text
    assert "no-store" in page.headers["cache-control"]


def test_assets_are_kept_and_only_ours_are_served(browser: Browser) -> None:
    """By a name that changes with their content; nothing else of the disk is reached."""
    page = browser.get("/").text
    path = page.split('rel="stylesheet" href="')[1].split('"')[0]
    answer = browser.get(path)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
    for name in ("../app.py", "..%2fapp.py", "x.css", "%2e%2e/users.py"):
        assert browser.get(f"/static/{name}").status_code == 404


def test_form_is_bounded(browser: Browser) -> None:
    """Neither a huge one nor another kind is read."""
    headers = {"Origin": browser.base, "Sec-Fetch-Site": "same-origin"}
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    huge = b"a=" + b"x" * 2**21
    assert browser.ask("POST", "/pause-all", content=huge, headers=form).status_code == 413
    bad = {**headers, "Content-Type": "application/json"}
    assert browser.ask("POST", "/pause-all", content=b"{}", headers=bad).status_code == 415
