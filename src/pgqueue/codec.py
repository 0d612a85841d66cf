"""How payloads of a declared type become JSON and come back."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from pgqueue.errors import PayloadError

if TYPE_CHECKING:
    from pgqueue.jsontext import Json


class Codec(Protocol):
    """Turns payloads into JSON and back; give one of your own to `Handlers` for richer types.

    With cattrs: `encode` is `converter.unstructure`, and `decode` is `converter.structure`.

    One with an attribute `untyped` that is true decodes payloads of kinds without a declared type,
    too, which it is told are `object`. One whose JSON differs each time has a method `same(stored,
    payload)`: whether what is stored may stay in the place of what was encoded now. Schedules that
    are declared would be written anew at every start of a worker without it.
    """

    def encode(self, value: Any) -> Json:  # noqa: ANN401 - any type a codec knows
        """JSON for `value`."""

    def decode(self, payload: Json, wanted: type[Any]) -> Any:  # noqa: ANN401
        """A value of type `wanted` from JSON; raise any exception if it does not fit."""


class PlainCodec:
    """For attrs classes and dataclasses whose fields are JSON, TypedDicts, and plain JSON.

    Nested classes become JSON objects and stay such when they come back: for more, use a codec over
    a converter library. Fields that are no arguments (`init=False`) are stored, and made anew.
    """

    def encode(self, value: Any) -> Json:  # noqa: ANN401
        """The fields of an attrs or dataclass instance; any other value as it is."""
        if attrs.has(type(value)):
            fields: Json = attrs.asdict(value)
            return fields
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        plain: Json = value
        return plain

    def decode(self, payload: Json, wanted: type[Any]) -> Any:  # noqa: ANN401
        """An instance of `wanted`, made from the payload; for other types the payload itself.

        Raises:
            PayloadError: the payload's keys are not the fields of `wanted`.
        """
        if not (attrs.has(wanted) or dataclasses.is_dataclass(wanted)):
            return payload
        try:
            return wanted(**_arguments(payload, wanted))
        except TypeError as error:
            raise PayloadError(
                f"the payload does not fit {wanted.__qualname__}: {error}; "
                "give new fields a default, so that jobs enqueued before still fit"
            ) from error


def _arguments(payload: Any, wanted: type[Any]) -> dict[str, Any]:  # noqa: ANN401
    """The payload's fields by the names of the arguments of `wanted` that take them.

    Raises:
        TypeError: the payload is no JSON object.
    """
    if not isinstance(payload, dict):
        raise TypeError(f"it is a {type(payload).__name__}, not an object")
    hashable: Any = wanted
    names = _argument_names(hashable)
    return {
        name: value for key, value in payload.items() if (name := names.get(key, key)) is not None
    }


@functools.lru_cache
def _argument_names(wanted: Any) -> dict[str, str | None]:  # noqa: ANN401 - a class
    """Of the fields that are no arguments of the same name: the argument, or None."""
    if attrs.has(wanted):
        return {
            field.name: field.alias if field.init else None
            for field in attrs.fields(wanted)
            if not field.init or field.alias != field.name
        }
    return {field.name: None for field in dataclasses.fields(wanted) if not field.init}
