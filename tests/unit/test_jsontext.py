"""JSON text that Postgres can store, or an error that says what is wrong."""

from __future__ import annotations

import json
import time
from enum import Enum, IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import InvalidJob, PayloadError, PayloadTooLarge, jsontext

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)
any_text = st.text(st.characters())
any_values = st.recursive(
    st.none() | st.floats() | any_text | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(any_text | st.integers() | st.binary(), inner),
    max_leaves=10,
)


class Colour(str, Enum):
    """A str, and so JSON."""

    RED = "red"


class Size(IntEnum):
    """An int, and so JSON."""

    LARGE = 3


@given(values)
def test_json_comes_back_as_it_was(value: object) -> None:
    """Whatever has no NUL and no lone surrogate, without a space too many."""
    text = jsontext.dumps(value)
    assert jsontext.loads(text) == value
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(values)
def test_json_that_pythons_reader_refuses_is_read_alike(value: object) -> None:
    """Any value, as Postgres writes it, beside one that needs the other way."""
    text = json.dumps({"other": value, "last": 1}, ensure_ascii=False)[:-1] + "0" * 5000 + "}"
    assert jsontext.loads(text) == {"other": value, "last": 10**5000}


def test_deep_json_is_read() -> None:
    """Postgres stores more levels than Python's reader takes, from 1,000 on."""
    value = jsontext.loads('[{"a": ' * 5000 + "1" + "}]" * 5000)
    for _ in range(5000):
        ((value,),) = (inner.values() for inner in value)
    assert value == 1


@given(any_values)
def test_anything_is_json_or_a_payload_error(value: object) -> None:
    """There is no other exception, and never text with what Postgres refuses."""
    try:
        text = jsontext.dumps(value, "result")
    except PayloadError as error:
        text = json.dumps(f"refused: {error}")
    text.encode()
    assert "\0" not in all_text(json.loads(text))


def all_text(value: object) -> str:
    """All text of a JSON value, keys included."""
    if isinstance(value, dict):
        return "".join(key + all_text(inner) for key, inner in value.items())
    if isinstance(value, list):
        return "".join(map(all_text, value))
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    "value, told",
    [
        ("a\0b", "NUL"),
        ({"\0": 1}, "NUL"),
        ({"a": ["\\\0"]}, "NUL"),
        ("\ud800", "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        (float("nan"), "not JSON"),
        ([float("inf")], "not JSON"),
        ({"a": -float("inf")}, "not JSON"),
        (b"bytes", "not JSON: Object of type bytes"),
        ({1, 2}, "not JSON: Object of type set"),
        (object(), "finite float, str, list or dict"),
        ({(1, 2): 3}, "not JSON: keys must be"),
    ],
)
def test_what_cannot_be_stored_is_refused(value: object, told: str) -> None:
    """The message says what it is."""
    with pytest.raises(PayloadError, match=told):
        jsontext.dumps(value)


def test_circle_is_refused() -> None:
    """A list that contains itself has no end."""
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(PayloadError, match="Circular reference"):
        jsontext.dumps(circle)


@pytest.mark.parametrize(
    "value",
    [r"\u0000", r"\\u0000", r"\\\u0000", "u0000", {r"\u0000": r"\\\u0000"}, Colour.RED, Size.LARGE],
)
def test_what_only_looks_bad_is_taken(value: object) -> None:
    """A backslash before u0000 is a backslash; an enum of str or int is its value."""
    assert json.loads(jsontext.dumps(value)) == value


def test_size_counts_bytes() -> None:
    """More than any schema allows is refused at once."""
    fits = "ä" * (jsontext.HIGHEST_CAP // 2 - 1)
    jsontext.dumps(fits)
    with pytest.raises(PayloadTooLarge, match=f"metadata of {jsontext.HIGHEST_CAP + 2} bytes"):
        jsontext.dumps(fits + "ä", "metadata")


def test_100_mb_are_refused_fast() -> None:
    """Well below a second."""
    value = {"x": "x" * 100_000_000}
    started = time.process_time()
    with pytest.raises(PayloadTooLarge):
        jsontext.dumps(value)
    assert time.process_time() - started < 1


@given(any_text)
def test_storable_text_has_what_postgres_takes(value: str) -> None:
    """Error texts are never refused; what is storable stays as it is."""
    stored = jsontext.storable_text(value)
    assert jsontext.is_storable(stored)
    assert len(stored) == len(value)
    assert (stored == value) == jsontext.is_storable(value)


@given(any_text)
def test_checked_text_is_storable_or_refused(value: str) -> None:
    """Of the two, always one."""
    if jsontext.is_storable(value):
        assert jsontext.checked_text(value, "ref") == value
    else:
        with pytest.raises(InvalidJob, match="ref has a NUL or a lone surrogate"):
            jsontext.checked_text(value, "ref")


def test_checked_text_must_be_text() -> None:
    """The message names the type."""
    with pytest.raises(InvalidJob, match="ref is a int; pass a str"):
        jsontext.checked_text(7, "ref")  # type: ignore[arg-type] # that is the point
