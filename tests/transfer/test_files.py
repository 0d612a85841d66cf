"""Jobs go into a file and come back as they were."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgqueue import Client, DatabaseUnavailable, Exponential
from pgqueue.transfer import FileError, UncertainDrain, dump, export_jobs, import_jobs

from .conftest import Sql

FAR = datetime(2090, 1, 1, tzinfo=timezone.utc)
EXACT = "1234567890.12345678901234567890"
COLUMNS = (
    "queue, kind, payload::text, priority, max_attempts, backoff::text, dedupe_key, dedupe_until, "
    "tags, metadata::text, ref, case when position is null then run_at end"
)


def fill(client: Client, sql: Sql) -> None:
    """Jobs of every sort in the queue mail, and one elsewhere."""
    client.enqueue("later", {"n": 1}, queue="mail", run_at=FAR, tags=["a", 'b"c'], ref="user:7")
    client.enqueue("plain", None, queue="mail", priority=9)
    client.enqueue("first", {"snow": "☃ \\ \n\u2028"}, queue="mail", priority=0, max_attempts=3)
    client.enqueue(
        "keyed", [1, None], queue="mail", dedupe_key="k", dedupe_until="start",
        retry=Exponential(base=timedelta(seconds=3)), metadata={"trace": "x"},
    )  # fmt: skip
    client.enqueue("other", queue="elsewhere")
    sql(f"update pgqueue.job set payload = '{{\"exact\": {EXACT}}}' where kind = 'plain'")


def rows(sql: Sql, queue: str = "mail") -> list[Any]:
    """All that makes up the jobs of a queue, in the order of their claim."""
    order = "position is null, priority, position, run_at, id"
    return sql(f"select {COLUMNS} from pgqueue.job where queue = %s order by {order}", queue)


@pytest.mark.parametrize("drain", [False, True])
def test_jobs_come_back_as_they_were(
    client: Client, sql: Sql, tmp_path: Path, *, drain: bool
) -> None:
    """Whatever they were enqueued with, in their order, and numbers to the last digit."""
    fill(client, sql)
    before = rows(sql)
    file = tmp_path / "mail.jsonl"
    assert export_jobs(client, "mail", file, drain=drain) == 4
    assert rows(sql) == ([] if drain else before)
    assert len(rows(sql, "elsewhere")) == 1
    client.purge("mail")
    loaded = import_jobs(client, file)
    assert (loaded.enqueued, loaded.duplicates) == (4, 0)
    assert rows(sql) == before
    assert EXACT in str(before)
    (job,) = client.claim("mail", limit=1)
    assert job.kind == "first"
    assert job.attempt == 1


def test_running_jobs_stay_out(client: Client, tmp_path: Path) -> None:
    """They belong to their workers."""
    client.enqueue_many([("a", n) for n in range(5)], queue="mail")
    jobs = client.claim("mail", limit=2)
    assert export_jobs(client, "mail", tmp_path / "f", drain=True) == 3
    client.ack(jobs)
    assert [client.get(job.id).state for job in jobs] == ["succeeded"] * 2


def test_only_one_kind(client: Client, tmp_path: Path) -> None:
    """The others stay."""
    client.enqueue_many([("a", 1), ("b", 2)], queue="mail")
    assert export_jobs(client, "mail", tmp_path / "f", kind="b", drain=True) == 1
    assert [job.kind for job in client.claim("mail", limit=5)] == ["a"]


def test_many_jobs_keep_their_order_over_chunks(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress is told after each."""
    monkeypatch.setattr(dump, "CHUNK", 100)
    client.enqueue_many([("a", n) for n in range(1050)], queue="mail")
    told: list[int] = []
    export_jobs(client, "mail", tmp_path / "f", drain=True, on_progress=told.append)
    assert told == [*range(100, 1001, 100), 1050, 1050]
    read: list[int] = []
    import_jobs(client, tmp_path / "f", queue="new", on_progress=read.append)
    assert read == [1000, 1050]
    assert [job.payload for job in client.claim("new", limit=1000)] == list(range(1000))


def test_no_file_is_overwritten(client: Client, tmp_path: Path) -> None:
    """And the queue is left alone."""
    file = tmp_path / "f"
    file.write_text("precious")
    client.enqueue("a", queue="mail")
    with pytest.raises(FileExistsError):
        export_jobs(client, "mail", file, drain=True)
    assert file.read_text() == "precious"
    assert client.stats()[0].ready == 1


def test_disk_that_is_full_takes_no_job_out(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second chunk cannot be written: the first is in the file, and the rest in the queue."""
    monkeypatch.setattr(dump, "CHUNK", 10)
    client.enqueue_many([("a", n) for n in range(25)], queue="mail")
    calls = 0

    def to_disk(file: Any) -> None:
        nonlocal calls
        file.flush()
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(dump, "_to_disk", to_disk)
    with pytest.raises(OSError, match="No space"):
        export_jobs(client, "mail", tmp_path / "f", drain=True)
    assert client.stats()[0].ready == 15
    assert import_jobs(client, tmp_path / "f").enqueued == 10
    assert sorted(job.payload for job in client.claim("mail", limit=99)) == list(range(25))


@pytest.mark.parametrize("committed", [True, False])
def test_answer_to_a_commit_that_is_lost(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    """The database is asked what became of it: jobs are in the file or in the queue, once."""
    client.enqueue_many([("a", n) for n in range(5)], queue="mail")
    transaction, lost = client.driver.transaction, False

    def cut() -> Any:
        nonlocal lost
        if lost:
            return transaction()
        lost = True
        return _Cut(transaction(), committed=committed)

    monkeypatch.setattr(client.driver, "transaction", cut)
    file = tmp_path / "f"
    if committed:
        assert export_jobs(client, "mail", file, drain=True) == 5
    else:
        with pytest.raises(DatabaseUnavailable):
            export_jobs(client, "mail", file, drain=True)
    monkeypatch.undo()
    in_file = len(file.read_text().splitlines()) - 1
    assert (in_file, len(client.claim("mail", limit=9))) == ((5, 0) if committed else (0, 5))


class _Cut:
    """A transaction whose end nobody hears of."""

    def __init__(self, inner: Any, *, committed: bool) -> None:
        self.inner = inner
        self.committed = committed

    def __enter__(self) -> Any:
        return self.inner.__enter__()

    def __exit__(self, *_: object) -> None:
        error = DatabaseUnavailable("the connection is lost")
        if self.committed:
            self.inner.__exit__(None, None, None)
        else:
            self.inner.__exit__(type(error), error, None)
        raise error


def test_database_that_stays_away_is_named_with_the_lines(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever drained knows which jobs to look for."""
    client.enqueue_many([("a", n) for n in range(5)], queue="mail")
    transaction = client.driver.transaction

    def away(*_: object) -> Any:
        raise DatabaseUnavailable("the server is gone")

    monkeypatch.setattr(client.driver, "transaction", lambda: _Cut(transaction(), committed=True))
    monkeypatch.setattr(client.driver, "run", away)
    with pytest.raises(UncertainDrain, match="lines 2 to 6") as caught:
        export_jobs(client, "mail", tmp_path / "f", drain=True)
    assert (caught.value.written, len(caught.value.ids)) == (0, 5)
    assert len((tmp_path / "f").read_text().splitlines()) == 6


def test_copy_is_of_one_moment(client: Client, tmp_path: Path, sql: Sql) -> None:
    """Jobs that are enqueued or claimed meanwhile change nothing in it."""
    client.enqueue_many([("a", n) for n in range(4500)], queue="mail")
    told = threading.Event()

    def meanwhile(_: int) -> None:
        if not told.is_set():
            told.set()
            sql("delete from pgqueue.job")

    assert export_jobs(client, "mail", tmp_path / "f", on_progress=meanwhile) == 4500
    assert told.is_set()


# The way back


def test_file_is_imported_once(client: Client, tmp_path: Path) -> None:
    """The audit log knows it; who wants it again says so."""
    client.enqueue("a", queue="mail")
    file = tmp_path / "f"
    export_jobs(client, "mail", file, drain=True)
    import_jobs(client, file, actor="ada")
    with pytest.raises(FileError, match="imported already"):
        import_jobs(client, file)
    assert import_jobs(client, file, again=True).enqueued == 1
    entries = client.operations.audit(action="import")
    assert [(entry.actor == "ada", entry.affected) for entry in entries] == [(False, 1), (True, 1)]


def test_held_dedupe_keys_are_duplicates(client: Client, tmp_path: Path) -> None:
    """As with any enqueue."""
    client.enqueue("a", queue="mail", dedupe_key="k")
    export_jobs(client, "mail", tmp_path / "f")
    loaded = import_jobs(client, tmp_path / "f")
    assert (loaded.enqueued, loaded.duplicates) == (0, 1)


def exported(client: Client, tmp_path: Path, count: int = 3) -> list[str]:
    """The lines of a file."""
    client.enqueue_many([("a", n) for n in range(count)], queue="mail")
    export_jobs(client, "mail", tmp_path / "good", drain=True)
    return (tmp_path / "good").read_text("utf-8").splitlines(keepends=True)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda lines: ["[]\n", *lines[1:]], "does not begin with the header"),
        (lambda lines: ["nonsense\n", *lines[1:]], "does not begin with the header"),
        (lambda _: [], "does not begin with the header"),
        (lambda lines: [lines[0].replace(": 1,", ": 2,"), *lines[1:]], "its format is 2"),
        (lambda lines: [*lines[:2], lines[2][:-20]], "line 3 is cut off"),
        (lambda lines: [*lines[:2], "nonsense\n"], "in lines 2 to 3: .*invalid input syntax"),
        (lambda lines: [*lines[:2], "[1]\n"], "in lines 2 to 3: "),
        (lambda lines: [*lines[:2], lines[2].replace('"a"', '"a b"')], "in lines 2 to 3: "),
        (
            lambda lines: [
                *lines[:2],
                lines[2].replace('"payload" : 1', f'"payload":"{"x" * 300000}"'),
            ],
            "over the limit",
        ),
    ],
)
def test_file_that_is_spoilt_is_not_imported(
    client: Client, tmp_path: Path, spoil: Callable[[list[str]], list[str]], says: str
) -> None:
    """Nothing of it is, and the error says where to look."""
    file = tmp_path / "bad"
    file.write_text("".join(spoil(exported(client, tmp_path))), "utf-8")
    with pytest.raises(FileError, match=says):
        import_jobs(client, file)
    assert client.stats() == [] or client.stats()[0].ready == 0


def test_file_that_is_no_text_is_not_imported(client: Client, tmp_path: Path) -> None:
    """Latin-1 in it, say."""
    lines = exported(client, tmp_path)
    (tmp_path / "bad").write_bytes("".join(lines[:2]).encode() + b'{"kind": "\xe9"}\n')
    with pytest.raises(FileError, match="not UTF-8"):
        import_jobs(client, tmp_path / "bad")


def test_numbers_in_a_line_are_those_of_the_payload(
    client: Client, sql: Sql, tmp_path: Path
) -> None:
    """A program that reads the file gets them, too."""
    fill(client, sql)
    export_jobs(client, "mail", tmp_path / "f")
    jobs = [
        json.loads(line, parse_float=Decimal)
        for line in (tmp_path / "f").read_text("utf-8").split("\n")[1:-1]
    ]
    assert [job["payload"] for job in jobs if job["kind"] == "plain"] == [{"exact": Decimal(EXACT)}]


def test_import_waits_for_another_one_of_the_file(client: Client, tmp_path: Path) -> None:
    """And then finds that it is done already."""
    lines = exported(client, tmp_path)
    export_id = json.loads(lines[0])["export_id"]
    refused: list[BaseException] = []

    def second() -> None:
        try:
            import_jobs(client, tmp_path / "good")
        except FileError as error:
            refused.append(error)

    with psycopg.connect(client.dsn) as conn:
        conn.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (export_id,))
        thread = threading.Thread(target=second)
        thread.start()
        while not conn.execute(
            "select 1 from pg_locks where locktype = 'advisory' and not granted"
        ).fetchone():
            assert thread.is_alive()
        client.operations.record("import", detail={"export_id": export_id}, conn=conn)
    thread.join(20)
    assert len(refused) == 1
