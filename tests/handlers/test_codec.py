"""Payloads to JSON and back."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

import attrs
import pytest

from pgqueue import PayloadError
from pgqueue.codec import PlainCodec


@attrs.frozen
class Address:
    """Nested."""

    city: str


@attrs.frozen
class Person:
    """With a private field, an alias and one that is no argument."""

    name: str
    _age: int = 0
    home: Address | None = None
    nick: str = attrs.field(default="", alias="called")
    size: int = attrs.field(init=False, default=3)


@dataclasses.dataclass
class Point:
    """With a field that is no argument."""

    x: int
    y: int = 0
    norm: int = dataclasses.field(init=False, default=0)


class Row(TypedDict):
    """Plain."""

    n: int


codec = PlainCodec()


@pytest.mark.parametrize("value", [Person("ada", 36, None, "al"), Point(1, 2)])
def test_instances_come_back_equal(value: Any) -> None:
    """Whatever their arguments are called."""
    encoded = codec.encode(value)
    assert isinstance(encoded, dict)
    assert codec.decode(encoded, type(value)) == value


def test_nested_classes_become_objects_and_stay_such() -> None:
    """More is for a converter library."""
    encoded = codec.encode(Person("ada", home=Address("x")))
    assert encoded == {"name": "ada", "_age": 0, "home": {"city": "x"}, "nick": "", "size": 3}
    assert codec.decode(encoded, Person).home == {"city": "x"}


@pytest.mark.parametrize("value", [None, 1, "x", [1], {"n": 1}, Point])
def test_other_values_are_left_as_they_are(value: Any) -> None:
    """Plain JSON, and what somebody else will refuse."""
    assert codec.encode(value) is value


def test_types_without_fields_take_the_payload_itself() -> None:
    """A TypedDict, or a plain type."""
    payload: Any = {"n": 1}
    assert codec.decode(payload, Row) is payload
    assert codec.decode(payload, dict) is payload


@pytest.mark.parametrize("payload", [[1], "x", None, {"nope": 1}, {}, {"name": "x", "nope": 1}])
@pytest.mark.parametrize("wanted", [Person, Point])
def test_misfit_is_told_with_the_type(payload: Any, wanted: type[Any]) -> None:
    """And with what to do about new fields."""
    with pytest.raises(PayloadError, match=f"does not fit {wanted.__name__}.*default"):
        codec.decode(payload, wanted)
