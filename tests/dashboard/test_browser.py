"""The pages in a real Chromium: flows, keys, news, and what shuts people out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped] # it has none
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.dashboard import scene
from tests.dashboard.conftest import OPERATOR

from pgqueue import Client
from pgqueue.dashboard import Dashboard, user_line

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"no {CHROMIUM}; apt-get install chromium"
)
TOKEN = "correct-horse-battery"  # noqa: S105 - of a test
expect.set_options(timeout=20_000)  # a busy machine takes its time


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for all tests of this module."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A window's worth of cookies."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def served(pgqueue_client: Client) -> Iterator[Callable[..., str]]:
    """Serves a dashboard of this test's database; gives its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def serve(**options: Any) -> str:
        if "users" not in options:
            options.setdefault("auth", lambda _: OPERATOR)
        config = uvicorn.Config(
            Dashboard(pgqueue_client, **options), port=0, log_level="error",
            timeout_graceful_shutdown=1, lifespan="off", ws="none",
        )  # fmt: skip
        socket = config.bind_socket()
        socket.listen(16)  # who comes before the server has started waits for it
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{socket.getsockname()[1]}"

    yield serve
    for server, thread in running:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page whose scripts must neither fail nor be stopped by the policy."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: wrong.append(said.text) if "Content Security" in said.text else None,
    )
    yield page
    assert wrong == []


def test_from_filter_to_job_to_retry(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """An operator follows the first page's advice to a dead job, and mends it."""
    scene.build(pgqueue_client)
    page.goto(served())
    page.get_by_role("link", name="Look").first.click()
    expect(page.get_by_text("9 jobs on this page")).to_be_visible()
    page.locator("tbody td.num").first.click()  # a row is a link, wherever it has none
    expect(page.get_by_role("heading", level=1)).to_contain_text("email.send")
    expect(page.get_by_text("Traceback (most recent call last)").first).to_be_visible()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".flash")).to_contain_text("runs again")
    expect(page.locator("main .state").first).to_have_text("ready")


def test_from_filter_to_all_that_fit(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """The preview counts, the action says what it did; selected rows go the same way."""
    scene.build(pgqueue_client)
    page.goto(f"{served()}/jobs?state=dead")
    page.get_by_role("link", name="Retry all that fit").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry 9 jobs?")
    page.get_by_label("Reason").fill("the provider is back")
    page.get_by_role("button", name="Retry 9 jobs").click()
    expect(page.locator(".flash")).to_have_text("9 jobs retried.")
    page.goto(page.url.partition("/jobs")[0] + "/jobs?state=ready&queue=mail-out")
    page.locator("tbody input[type=checkbox]").nth(0).check()
    page.locator("tbody input[type=checkbox]").nth(1).check()
    page.get_by_role("button", name="Cancel selected").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 2 jobs?")


def test_queue_is_paused_and_goes_on(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """The reason is there for others to read."""
    pgqueue_client.enqueue("k", queue="mail")
    page.goto(f"{served()}/queues/mail")
    page.get_by_label("Reason").fill("provider down")
    page.get_by_role("button", name="Pause mail").click()
    expect(page.locator(".under")).to_contain_text("provider down")
    assert pgqueue_client.claim("mail") == []
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".flash")).to_contain_text("goes on")
    assert len(pgqueue_client.claim("mail")) == 1


def test_schedule_is_made_previewed_edited_and_run(served: Callable[..., str], page: Page) -> None:
    """By cron first, then at an interval: the fields follow the choice."""
    page.goto(f"{served()}/schedules")
    page.get_by_role("link", name="New schedule").click()
    page.get_by_label("Name").fill("nightly")
    page.get_by_label("Kind").fill("report")
    page.get_by_label("Cron expression", exact=True).fill("30 3 * * *")
    page.get_by_role("button", name="Show when it would run").click()
    expect(page.get_by_role("heading", name="It would run")).to_be_visible()
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("At an interval").check()
    expect(page.get_by_label("Cron expression", exact=True)).to_be_hidden()
    page.get_by_label("Every", exact=True).fill("15")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".under")).to_contain_text("every 15m")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator(".flash")).to_contain_text("run by hand")
    expect(page.locator("tbody").first).to_contain_text("manual")


def test_login_by_form_and_by_link(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """A wrong token says so; the link that the command prints logs in and hides its token."""
    pgqueue_client.enqueue("k")
    url = served(users=[user_line("ada", TOKEN, "operator")])
    page.goto(f"{url}/jobs")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Token").fill("wrong-wrong-wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("Wrong name or token.")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    page.get_by_role("button", name="Log out").first.click()
    page.goto("about:blank")
    page.goto(f"{url}/login#name=ada&token={TOKEN}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    assert TOKEN not in page.url


def test_page_shows_what_changes_by_itself(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """An enqueue elsewhere arrives without a reload, and what the user does is left alone."""
    page.goto(f"{served()}/jobs")
    expect(page.locator(".live")).to_have_text("live")
    page.evaluate("window.kept = true")
    page.get_by_label("Id or kind").fill("half typ")
    pgqueue_client.enqueue("fresh.arrival")
    expect(page.get_by_text("fresh.arrival")).to_be_visible()
    assert page.evaluate("window.kept")
    assert page.get_by_label("Id or kind").input_value() == "half typ"


def test_keys_lead_everywhere(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """Rows by j and k, search by /, help by ?, pages by g."""
    pgqueue_client.enqueue_many([("k", {"n": n}) for n in range(3)])
    page.goto(f"{served()}/jobs")
    for key in ("j", "j", "j", "k"):
        page.keyboard.press(key)
    expect(page.locator("tbody tr.on")).to_contain_text("#2")
    page.keyboard.press("/")
    expect(page.get_by_label("Id or kind")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Keys")).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("k #")
    page.keyboard.press("g")
    page.keyboard.press("q")
    expect(page.get_by_role("heading", level=1)).to_have_text("Queues")


def test_what_cannot_be_undone_is_asked_about(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """No does nothing, yes does it."""
    number = pgqueue_client.enqueue("k").id
    page.goto(f"{served()}/jobs/{number}")
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_role("button", name="No, go back").click()
    assert pgqueue_client.get(number).state == "ready"
    page.get_by_role("button", name="Cancel").first.click()
    page.locator("#sure button[value=yes]").click()
    expect(page.locator(".flash")).to_contain_text("is cancelled")
    assert pgqueue_client.get(number).state == "cancelled"


def test_theme_is_switched_and_kept(served: Callable[..., str], page: Page) -> None:
    """At once, and on the next page."""
    page.goto(f"{served()}/workers")
    with page.expect_response("**/theme"):
        page.get_by_role("button", name="Dark").first.click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def _paths(made: scene.Scene) -> list[str]:
    return [
        "/", "/jobs?state=dead", f"/jobs/{made.dead}", f"/jobs/{made.scheduled}",
        f"/jobs/{made.nasty}", "/jobs/bulk?action=retry&state=dead", "/queues",
        "/queues/mail-out", "/schedules",
        "/schedules/report.nightly", "/schedule-new", "/workers", "/audit", "/doctor",
        "/jobs/99999",
    ]  # fmt: skip


def test_pages_shut_nobody_out(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """No serious finding of axe's, and no script from data."""
    made = scene.build(pgqueue_client)
    url = served()
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    for path in _paths(made):
        page.goto(f"{url}{path}")
        assert page.title() != "pwned", path
        assert _serious(page) == [], path


def test_dark_pages_are_legible_and_all_fit_a_phone(
    pgqueue_client: Client, served: Callable[..., str], page: Page
) -> None:
    """Contrast in dark as in light, and nothing wider than 390 pixels."""
    made = scene.build(pgqueue_client)
    url = served()
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    page.set_viewport_size({"width": 390, "height": 844})
    for path in _paths(made):
        page.goto(f"{url}{path}")
        assert _serious(page, ["color-contrast"]) == [], path
        wide, has = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= has, path


def test_login_shuts_nobody_out(served: Callable[..., str], page: Page) -> None:
    """The page that everybody meets first."""
    page.goto(f"{served(users=[user_line('ada', TOKEN)])}/login")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert _serious(page) == []


def _serious(page: Page, rules: list[str] | None = None) -> list[str]:
    """What axe finds that is serious or critical."""
    options = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['any'][0]['message'] if node['any'] else ''}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
