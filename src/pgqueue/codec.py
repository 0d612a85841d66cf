"""How payloads of a declared type become JSON and come back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from pgqueue.errors import PayloadError

if TYPE_CHECKING:
    from pgqueue.jsontext import Json


class Codec(Protocol):
    """Turns payloads into JSON and back; give one of your own to `Handlers` for richer types.

    With cattrs: `encode` is `converter.unstructure`, and `decode` is `converter.structure`.
    """

    def encode(self, value: Any) -> Json:  # noqa: ANN401 - any type a codec knows
        """JSON for `value`."""

    def decode(self, payload: Json, wanted: type[Any]) -> Any:  # noqa: ANN401
        """A value of type `wanted` from JSON; raise any exception if it does not fit."""


class PlainCodec:
    """For attrs classes and dataclasses with fields that are JSON themselves, TypedDicts, and plain JSON.

    Nested classes become JSON objects and stay such when they come back: for more, use a codec over
    a converter library.
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
        """An instance of `wanted`, made from the payload's keys; a TypedDict or plain type as it is.

        Raises:
            PayloadError: the payload's keys are not the fields of `wanted`.
        """
        if not (attrs.has(wanted) or dataclasses.is_dataclass(wanted)):
            return payload
        try:
            return wanted(**payload)  # type: ignore[arg-type] # checked by the call itself
        except TypeError as error:
            raise PayloadError(
                f"the payload does not fit {wanted.__qualname__}: {error}; "
                "give new fields a default, so that jobs enqueued before still fit"
            ) from error
