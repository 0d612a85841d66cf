"""Shared secrets and signatures."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from pgqueue.endpoint import sign
from pgqueue.endpoint.signing import MOST_REMEMBERED, Guard

from .conftest import SECRET, Call, Make

OTHER = "another-secret-of-this-test"
KEYS = (b"old-key-of-this-test", b"new-key-of-this-test")


class Clock:
    """A clock that goes when it is told to."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def signed(secret: bytes, body: bytes, at: float) -> dict[str, str]:
    """The headers of a signed request, in small letters."""
    return {k.lower(): v for k, v in sign(secret.decode(), body, timestamp=at).items()}


@pytest.mark.parametrize(
    "header, status",
    [
        (f"Bearer {SECRET}", 200),
        (f"bearer {SECRET}", 200),
        (f"Bearer {OTHER}", 200),
        (f"Bearer {SECRET}x", 401),
        (f"Bearer {SECRET[:-1]}", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Basic {SECRET}", 401),
        (SECRET, 401),
    ],
)
def test_secret_of_a_request(make: Make, call: Call, header: str, status: int) -> None:
    """Any of those that are set lets in, whole, and nothing else does."""
    answer = call(make(secrets=[SECRET, OTHER]), headers={"Authorization": header})
    assert answer.status_code == status
    assert status == 200 or answer.headers["WWW-Authenticate"] == "Bearer"
    assert SECRET not in answer.text


@pytest.mark.parametrize("text", ["\xff", "\ud800", "\U0001f511" * 9])
def test_secret_beyond_ascii_is_wrong(make: Make, text: str) -> None:
    """Whatever a server lets through is compared, and never raises."""
    endpoint = make(hmac_secrets=SECRET)
    given = {**sign(SECRET), "X-Pgqueue-Signature": text, "Authorization": f"Bearer {text}"}
    assert endpoint.respond("POST", given).status == 401


def test_header_of_choice_carries_the_secret(make: Make, call: Call) -> None:
    """Beside Authorization; another header does not."""
    endpoint = make(header="X-Api-Key")
    assert call(endpoint, headers={"x-api-key": SECRET}).status_code == 200
    assert call(endpoint).status_code == 200
    assert call(endpoint, headers={"x-other-key": SECRET}).status_code == 401
    assert call(endpoint, headers={}).status_code == 401


def test_signed_request_is_let_in_once(make: Make, call: Call) -> None:
    """The same request again is refused, and so is a signature over another body."""
    endpoint = make(secrets=None, hmac_secrets=[SECRET])
    body = b'{"limit": 1}'
    headers = {**sign(SECRET, body), "Content-Type": "application/json"}

    def send(content: bytes) -> httpx.Response:
        return call(endpoint, headers=headers, content=content)

    assert send(b'{"limit": 2}').status_code == 401
    assert send(body).status_code == 200
    assert send(body).status_code == 401
    assert call(endpoint).headers["WWW-Authenticate"] == "HMAC-SHA256"
    assert call(endpoint, headers=sign(OTHER)).status_code == 401
    assert call(endpoint, headers=sign(SECRET)).status_code == 200


def test_either_way_lets_in(make: Make, call: Call) -> None:
    """With both set, a secret or a signature will do."""
    endpoint = make(hmac_secrets=[OTHER])
    assert call(endpoint).status_code == 200
    assert call(endpoint, headers=sign(OTHER)).status_code == 200
    assert call(endpoint, headers=sign(SECRET)).status_code == 401


def test_signatures_live_for_the_window() -> None:
    """Neither older nor from further ahead; by either of two keys, whose signatures differ."""
    clock = Clock()
    guard = Guard((), KEYS, None, 300.0, clock)
    for offset, good in ((-301, False), (-300, True), (0, True), (300, True), (301, False)):
        for key in KEYS:
            assert guard.verifies(signed(key, b"", clock.now + offset), b"") is good
    ahead = signed(KEYS[0], b"x", clock.now + 300)
    assert guard.verifies(ahead, b"x")
    clock.now += 600
    assert not guard.verifies(ahead, b"x")


@pytest.mark.parametrize("at", ["", "now", "-1", "1e9", "nan", "1" * 13, "1.", "\u0661"])
def test_timestamp_that_is_none_is_refused(at: str) -> None:
    """Whatever the signature says."""
    guard = Guard((), KEYS, None, 1e18)
    headers = signed(KEYS[0], b"", 0.0)
    assert not guard.verifies({**headers, "x-pgqueue-timestamp": at}, b"")
    assert not guard.verifies({"x-pgqueue-timestamp": "1"}, b"")


def test_used_signatures_are_forgotten_after_their_time() -> None:
    """Those that are remembered are bounded by the window, and in number."""
    clock = Clock()
    guard = Guard((), KEYS[:1], None, 10.0, clock)
    for number in range(MOST_REMEMBERED + 5):
        clock.now += 0.000_1
        assert guard.verifies(signed(KEYS[0], b"%d" % number, clock.now), b"%d" % number)
    assert len(guard._used) == MOST_REMEMBERED
    clock.now += 21
    assert guard.verifies(signed(KEYS[0], b"", clock.now), b"")
    assert len(guard._used) == 1


def test_signature_can_be_made_in_sql(pgqueue_dsn: str) -> None:
    """What the guide's SQL makes with pgcrypto is what `sign` makes."""
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        try:
            conn.execute("create extension pgcrypto")
        except psycopg.errors.Error as error:
            pytest.skip(f"this server has no pgcrypto: {error}")
        row = conn.execute(
            "select encode(public.hmac('1800000000.000000.{}', %s, 'sha256'), 'hex')", (SECRET,)
        ).fetchone()
    assert row is not None
    assert row[0] == sign(SECRET, b"{}", timestamp=1_800_000_000)["X-Pgqueue-Signature"]
