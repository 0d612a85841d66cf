"""What may be written for durations, times, JSON, backoffs and weights."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import click
import pytest

from pgqueue.cli import params
from pgqueue.retry import Constant, Delays, Exponential, RetryPolicy


@pytest.mark.parametrize(
    "text,span",
    [
        ("500ms", timedelta(milliseconds=500)),
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("2h", timedelta(hours=2)),
        ("1.5d", timedelta(hours=36)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1m1m", timedelta(minutes=2)),
        ("0s", timedelta(0)),
    ],
)
def test_duration_is_numbers_with_units(text: str, span: timedelta) -> None:
    """Each unit is known, and parts add up."""
    assert params.duration(text) == span


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "-5m", "m", "5x", "1e3s", "५s", "99999999999w", "5M"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit would be a guess."""
    with pytest.raises(click.BadParameter, match="is no duration; write"):
        params.duration(text)


def test_lease_of_no_length_is_refused() -> None:
    """Zero is a duration, but none that work can be done in."""
    assert params.positive_duration("1s") == timedelta(seconds=1)
    with pytest.raises(click.BadParameter, match="more than zero"):
        params.positive_duration("0s")


@pytest.mark.parametrize(
    "text", ["2030-01-31T18:00:00Z", "2030-01-31T19:00:00+01:00", "2030-01-31 18:00z"]
)
def test_moment_has_an_offset(text: str) -> None:
    """ISO 8601, with Z on every Python."""
    assert params.moment(text) == datetime(2030, 1, 31, 18, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text,why", [("2030-01-31T18:00", "no offset"), ("tomorrow", "is no time"), ("", "is no time")]
)
def test_vague_moment_is_refused(text: str, why: str) -> None:
    """A time without an offset could be anybody's."""
    with pytest.raises(click.BadParameter, match=why):
        params.moment(text)


def test_moment_or_duration_takes_both() -> None:
    """A pause ends then, or in so long."""
    assert params.moment_or_duration("2h") == timedelta(hours=2)
    assert params.moment_or_duration("2030-01-01T00:00Z") == datetime(
        2030, 1, 1, tzinfo=timezone.utc
    )


def test_json_comes_from_text_or_file(tmp_path: Path) -> None:
    """@FILE names a file, anything else is the text itself."""
    file = tmp_path / "payload.json"
    file.write_text('{"é": [1]}', encoding="utf-8")
    assert params.json_value('"x"') == "x"
    assert params.json_value(f"@{file}") == {"é": [1]}
    assert params.json_object(f"@{file}") == {"é": [1]}


@pytest.mark.parametrize(
    "text,why",
    [
        ("{to: 1}", "not JSON: .* at line 1, column 2"),
        ("", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_json_is_refused(text: str, why: str) -> None:
    """The message says where it breaks."""
    with pytest.raises(click.BadParameter, match=why):
        params.json_value(text)


def test_metadata_must_be_an_object() -> None:
    """A list is JSON, but no object."""
    with pytest.raises(click.BadParameter, match="not a JSON object"):
        params.json_object("[1]")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file and one that is not text both say which."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(click.UsageError, match=r"cannot read .*missing: No such file"):
        params.read_text(f"@{tmp_path}/missing")
    with pytest.raises(click.UsageError, match=r"cannot read .*binary: it is not UTF-8"):
        params.read_text(f"@{tmp_path}/binary")


@pytest.mark.parametrize(
    "text,policy",
    [
        ("30s", Constant(timedelta(seconds=30))),
        ("5s,1m", Delays((timedelta(seconds=5), timedelta(minutes=1)))),
        ("2s..1h", Exponential(base=timedelta(seconds=2), cap=timedelta(hours=1))),
    ],
)
def test_backoff_is_constant_listed_or_doubling(text: str, policy: RetryPolicy) -> None:
    """Three ways of writing for three policies."""
    assert params.backoff(text) == policy


@pytest.mark.parametrize("text", ["", "0s", "5s,", "..1h", "2s..", "2s..1h..3h", "often"])
def test_what_is_no_backoff_is_refused(text: str) -> None:
    """Half a policy is none."""
    with pytest.raises(click.BadParameter, match="is no backoff"):
        params.backoff(text)


def test_backoff_cannot_double_downwards() -> None:
    """The cap would hold from the first attempt on."""
    with pytest.raises(click.BadParameter, match="shorter wait first"):
        params.backoff("1h..2s")


def test_job_id_is_a_positive_number() -> None:
    """As large as Postgres can count."""
    assert params.job_id("7") == 7
    assert params.job_id(str(2**63 - 1)) == 2**63 - 1
    for text in ("", "0", "-1", "x", "1.5", "\N{ARABIC-INDIC DIGIT SEVEN}", str(2**63), "9" * 5000):
        with pytest.raises(click.BadParameter, match="is no job's id"):
            params.job_id(text)


def test_queue_may_have_a_weight() -> None:
    """Without one it weighs 1."""
    assert params.weighted_queue("mail") == ("mail", 1.0)
    assert params.weighted_queue("mail=2.5") == ("mail", 2.5)
    with pytest.raises(click.BadParameter, match="has no weight"):
        params.weighted_queue("mail=heavy")
