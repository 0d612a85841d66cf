"""Payloads that the database cannot read."""

from __future__ import annotations

import asyncio
import base64
import sys
from datetime import timedelta
from functools import partial
from typing import Any

import attrs
import pytest

from pgqueue import (
    AsyncClient,
    Client,
    ConfigurationError,
    DecryptionError,
    EncryptedCodec,
    Handlers,
    Job,
    JobState,
    PayloadError,
    Schedule,
    Worker,
    mask_payload,
    reencrypt,
)

CANARY = "canary-93be"
HOUR = timedelta(hours=1)
OLD, NEW, OTHER = (base64.urlsafe_b64encode(bytes([n] * 32)).decode() for n in (7, 77, 177))


@attrs.frozen
class Card:
    """A payload with a type."""

    number: str


def _stored(client: Client) -> str:
    """Every byte that the queue's tables hold, as text."""
    with client.driver.connection() as conn:
        jobs = conn.execute("select j::text from pgqueue.job j").fetchall()
        return str(jobs + conn.execute("select a::text from pgqueue.archive a").fetchall())


def _handlers(*keys: str, **options: Any) -> tuple[Handlers, list[Any]]:
    """Handlers with these keys, and what they got."""
    handlers = Handlers(codec=EncryptedCodec(keys), **options)
    got: list[Any] = []

    @handlers.register("typed", payload=Card, max_attempts=1)
    def typed(job: Job[Card]) -> None:
        got.append(job.payload)

    @handlers.register("untyped", max_attempts=1)
    def untyped(job: Job[Any]) -> None:
        got.append(job.payload)

    @handlers.register("batch", max_attempts=1, batch=10)
    def batch(jobs: list[Job[Any]]) -> None:
        got.extend(job.payload for job in jobs)

    @handlers.register("raises", max_attempts=1)
    def raises(job: Job[Any]) -> None:
        raise ValueError(f"cannot {job.payload}")

    return handlers, got


def test_worker_reads_what_the_database_cannot(pgqueue_client: Client) -> None:
    """Typed or not, in batches or alone; the first key's id stands beside it."""
    handlers, got = _handlers(NEW, OLD)
    handlers.enqueue(pgqueue_client, "typed", Card(CANARY))
    handlers.enqueue(pgqueue_client, "untyped", {"n": CANARY, "u": "ü\U0001f511"})
    handlers.enqueue(pgqueue_client, "batch", [CANARY])
    pgqueue_client.enqueue_many([handlers["untyped"].new({"many": CANARY})] * 300)
    assert CANARY not in _stored(pgqueue_client)
    first = EncryptedCodec([NEW]).key_ids[0]
    payload = pgqueue_client.get(pgqueue_client.list(kind="typed")[0].id).payload
    assert payload["$encrypted"]["key"] == first
    assert Worker(pgqueue_client, handlers).run(until_idle=True) == 0
    assert Card(CANARY) in got
    assert {"n": CANARY, "u": "ü\U0001f511"} in got
    assert [CANARY] in got
    assert got.count({"many": CANARY}) == 300
    assert CANARY not in _stored(pgqueue_client)


def test_redact_sees_the_payload_in_clear(
    pgqueue_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Else it could not mask what an error quotes."""
    handlers, _ = _handlers(NEW, redact=mask_payload)
    handlers.enqueue(pgqueue_client, "raises", {"n": CANARY})
    assert Worker(pgqueue_client, handlers).run(until_idle=True) == 0
    assert "cannot" in caplog.text
    assert CANARY not in caplog.text + _stored(pgqueue_client)


def test_payload_without_its_key_fails_and_is_not_lost(
    pgqueue_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The error has a type and the key's id; once the key is back, the job is redriven."""
    sender, _ = _handlers(OLD)
    job = sender.enqueue(pgqueue_client, "typed", Card(CANARY)).id
    strangers, _ = _handlers(NEW)
    errors: list[BaseException | None] = []
    strangers.on_end(lambda event: errors.append(event.error))
    assert Worker(pgqueue_client, strangers).run(until_idle=True) == 0
    (error,) = errors
    assert isinstance(error, DecryptionError)
    assert error.key == EncryptedCodec([OLD]).key_ids[0]
    found = pgqueue_client.get(job)
    assert found.state is JobState.DEAD
    assert found.history[0].error_class == "DecryptionError"
    assert error.key in caplog.text
    assert pgqueue_client.redrive() == 1
    owners, got = _handlers(NEW, OLD)
    assert Worker(pgqueue_client, owners).run(until_idle=True) == 0
    assert got == [Card(CANARY)]


def test_payloads_from_before_are_read_as_they_are(pgqueue_client: Client) -> None:
    """So that encryption can be turned on while jobs wait; {} is not worth a cipher."""
    handlers, got = _handlers(NEW)
    pgqueue_client.enqueue("untyped", {"plain": 1})
    pgqueue_client.enqueue("typed", {"number": "1"})
    handlers.enqueue(pgqueue_client, "untyped")
    assert Worker(pgqueue_client, handlers).run(until_idle=True) == 0
    assert {"plain": 1} in got
    assert Card("1") in got
    assert {} in got


def test_waiting_jobs_get_the_first_key(pgqueue_client: Client) -> None:
    """In several batches; not those that run, nor those that nobody here can read."""
    old, new = EncryptedCodec([OLD]), EncryptedCodec([NEW, OLD])
    for number in range(7):
        pgqueue_client.enqueue("k", old.encode(number), delay=timedelta(hours=number % 2))
    pgqueue_client.enqueue("k", EncryptedCodec([OTHER]).encode("theirs"))
    pgqueue_client.enqueue("k", {"plain": 1})
    broken: Any = {"$encrypted": {"key": old.key_ids[0], "data": "gAAA"}}
    pgqueue_client.enqueue("k", broken)
    (running,) = pgqueue_client.claim()
    assert reencrypt(pgqueue_client, new, batch=2) == 6
    assert reencrypt(pgqueue_client, new) == 0
    payloads = [pgqueue_client.get(job.id).payload for job in pgqueue_client.list()]
    keys = [payload.get("$encrypted", {}).get("key") for payload in payloads]
    assert keys.count(new.key_ids[0]) == 6
    assert broken in payloads
    assert {"plain": 1} in payloads
    reader = EncryptedCodec([NEW])
    mine = [p for p, key in zip(payloads, keys, strict=True) if key == reader.key_ids[0]]
    assert sorted(reader.decode(payload, object) for payload in mine) == list(range(1, 7))
    assert old.decode(running.payload, object) == 0


def test_schedules_get_the_first_key_and_pass_it_on(pgqueue_client: Client) -> None:
    """Those of everybody; their slots stay."""
    old, new = EncryptedCodec([OLD]), EncryptedCodec([NEW, OLD])
    for number in range(3):
        payload = old.encode(number)
        pgqueue_client.schedules.put(Schedule(f"s{number}", "k", payload, every=HOUR))
    pgqueue_client.schedules.put(Schedule("plain", "k", {"plain": 1}, every=HOUR))
    slots = [state.next_run_at for state in pgqueue_client.schedules.list()]
    assert reencrypt(pgqueue_client, new, batch=2) == 3
    assert reencrypt(pgqueue_client, new) == 0
    assert [state.next_run_at for state in pgqueue_client.schedules.list()] == slots
    pgqueue_client.schedules.run_now("s2")
    (job,) = pgqueue_client.claim()
    assert EncryptedCodec([NEW]).decode(job.payload, object) == 2
    assert pgqueue_client.schedules.get("plain").schedule.payload == {"plain": 1}


def _declared(client: Client, payload: Any, *keys: str, use_async: bool = False) -> str:
    """Starts a worker that declares a schedule; the row as it is then, and who wrote it."""
    handlers = Handlers(codec=EncryptedCodec(keys), declared_by="shop")
    handlers.register("untyped")(lambda _: None)
    handlers.schedule("s", "untyped", payload, every=HOUR)
    if use_async:
        asyncio.run(_drain(client.dsn, handlers))
    else:
        Worker(client, handlers).run(until_idle=True)
    with client.driver.connection() as conn:
        (row,) = conn.execute("select s.xmin::text || s::text from pgqueue.schedule s").fetchall()
        return str(row[0])


async def _drain(dsn: str, handlers: Handlers) -> None:
    async with AsyncClient(dsn) as client:
        await Worker(client, handlers).run_async(until_idle=True)


@pytest.mark.parametrize("use_async", [False, True])
def test_declared_schedule_is_written_only_where_it_changed(
    pgqueue_client: Client,
    use_async: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Its cipher is another one each time; with another payload or another first key, it is."""
    start = partial(_declared, pgqueue_client, use_async=use_async)
    first = start({"n": CANARY}, OLD)
    assert CANARY not in first
    assert start({"n": CANARY}, OLD) == start({"n": CANARY}, OLD, NEW) == first
    renewed = start({"n": CANARY}, NEW, OLD)
    assert renewed != first
    assert start({"n": CANARY}, NEW) == renewed
    changed = start({"n": CANARY, "more": 1}, NEW)
    assert changed != renewed
    assert start({"n": CANARY, "more": 1}, NEW) == changed


def test_declared_schedule_that_was_stored_in_clear_is_encrypted(pgqueue_client: Client) -> None:
    """And one that was tampered with is written anew."""
    pgqueue_client.schedules.sync([Schedule("s", "untyped", {"n": CANARY}, every=HOUR)], "shop")
    assert CANARY not in _declared(pgqueue_client, {"n": CANARY}, NEW)
    key = EncryptedCodec([NEW]).key_ids[0]
    broken: Any = {"$encrypted": {"key": key, "data": "gAAA"}}
    pgqueue_client.schedules.sync([Schedule("s", "untyped", broken, every=HOUR)], "shop")
    assert 'gAAA"' not in _declared(pgqueue_client, {"n": CANARY}, NEW)


@pytest.mark.parametrize(
    "box",
    [
        {"key": EncryptedCodec([NEW]).key_ids[0], "data": "gAAAAA"},
        {"key": EncryptedCodec([NEW]).key_ids[0]},
        {"key": EncryptedCodec([OTHER]).key_ids[0], "data": ""},
        {"key": 1, "data": 2},
        {},
        [],
        None,
        "x",
    ],
)
def test_what_is_no_cipher_of_ours_is_refused(box: Any) -> None:
    """Whatever stands there instead."""
    with pytest.raises(DecryptionError, match="redrive"):
        EncryptedCodec([NEW]).decode({"$encrypted": box}, object)


def test_changed_cipher_is_refused() -> None:
    """Every byte of it is authenticated."""
    codec = EncryptedCodec([NEW])
    payload: Any = codec.encode({"n": 1})
    data = payload["$encrypted"]["data"]
    for place in range(0, len(data) - 2, 7):
        changed = data[:place] + ("A" if data[place] != "A" else "B") + data[place + 1 :]
        with pytest.raises(DecryptionError):
            codec.decode({"$encrypted": {**payload["$encrypted"], "data": changed}}, object)


@pytest.mark.parametrize("keys", [[], "", OLD, ["short"], [b"x" * 44], [1], ["é" * 44], None])
def test_bad_keys_are_refused_without_being_quoted(keys: Any) -> None:
    """When the codec is made."""
    with pytest.raises(ConfigurationError, match="key") as caught:
        EncryptedCodec(keys)
    assert OLD not in str(caught.value)
    assert "short" not in str(caught.value)


def test_codec_shows_no_key() -> None:
    """Nor does what holds it; ids are no keys, and new keys are new."""
    assert EncryptedCodec.new_key() != EncryptedCodec.new_key()
    assert EncryptedCodec([EncryptedCodec.new_key()]).key_ids
    codec = EncryptedCodec([NEW, OLD, NEW])
    assert len(codec.key_ids) == 2
    handlers, _ = _handlers(NEW)
    for each in (codec, handlers, handlers["typed"]):
        assert NEW not in repr(each)
    assert codec.key_ids[0] not in NEW


def test_what_is_not_json_is_refused_before_it_is_encrypted() -> None:
    """As without encryption."""
    with pytest.raises(PayloadError):
        EncryptedCodec([NEW]).encode({"a": {1}})


def test_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ConfigurationError, match=r"pgqueue-jobs\[encryption\]"):
        EncryptedCodec([NEW])
