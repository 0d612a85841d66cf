"""Inputs that have broken queues, by the reason why they might: nasty, odd and merely unusual.

Each is tried wherever its sort belongs. It has to come back as Python's own JSON would give it
back, or be refused with an error of pgqueue's.
"""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import fractions
import pathlib
import types
import uuid
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any

import attrs

MEGABYTE = 1_000_000
UTC = timezone.utc


@attrs.frozen
class Group:
    """Inputs of one sort, and why they are here."""

    name: str
    reason: str
    values: Sequence[Any] = attrs.field(repr=False)


class Text(str):
    """A subclass."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Whole(int):
    """A subclass."""

    def __repr__(self) -> str:
        return "not a number"


class Real(float):
    """A subclass."""

    def __repr__(self) -> str:
        return "not a number"


class Items(list[Any]):
    """A subclass."""


class Colour(str, enum.Enum):
    """An enum that is text."""

    RED = "red"


class Size(enum.IntEnum):
    """An enum that is a number."""

    LARGE = 3


class Plain(enum.Enum):
    """An enum that is neither."""

    ONE = 1


class Pair(tuple[int, int]):
    """A subclass."""

    __slots__ = ()


class NoZone(tzinfo):
    """A zone that says nothing."""

    def utcoffset(self, _: datetime | None) -> None:
        """Nothing."""

    def dst(self, _: datetime | None) -> None:
        """Nothing."""

    def tzname(self, _: datetime | None) -> None:
        """Nothing."""


@dataclasses.dataclass
class Record:
    """No JSON by itself."""

    field: int = 1


def nested(depth: int, of: str = "list") -> Any:
    """So many containers in one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if of == "list" else {"a": value}
    return value


def circle() -> list[Any]:
    """A list that contains itself."""
    value: list[Any] = [1]
    value.append(value)
    return value


TEXTS = (
    Group("control", "control characters pass through JSON, COPY and arrays, each with its own escapes", [
        "", " ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\b", "\x01", "\x1b[31mred", "\x1f", "\x7f", "\x80", "\x85",
        "\u2028", "\u2029", " leading", "trailing ", "a\tb\nc",
    ]),
    Group("unicode", "what looks alike is not the same, and nothing may be normalised", [
        "é", "e\u0301", "ﬁ", "ß", "İ", "ı", "Ω", "Ω", "\u00a0", "\u200b", "\u200d", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\U0010ffff",
        "\U000e0001", "a" + "\u0300" * 200, "שלום", "مرحبا", "नमस्ते", "สวัสดี", "日本語", "한국어", "ᚠᛇᚻ", "\ue000", "K", "Å",
    ]),
    Group("bidi", "overrides and isolates reorder what is shown", [
        "\u202e" "gpj.exe", "\u2066" "a" "\u2069", "\u200f", "\u061c", "a\u202bb\u202c", "\u2067",
    ]),
    Group("emoji", "characters beyond 16 bits, and several that make one", [
        "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇺🇳", "1️⃣", "𝔘𝔫𝔦", "🤦🏼‍♂️", "😀" * 500,
    ]),
    Group("sql", "text is data, wherever it goes", [
        "'", "''", '"', "`", "$$", "$1", "$body$", "%s", "%(a)s", "%%", "%", "{}", "{0}", ":a", "?", "--", "/*", "*/", ";", "\\", "\\\\",
        "\\'", "'; drop table pgqueue.job; --", "' or '1'='1", "1; select pg_sleep(9)", "E'\\x41'", "U&'\\0041'", "NULL", "null",
        "None", "\\N", "\\.", "\\n", "now()", "infinity", "epoch", "@extschema@", "pgqueue", "pg_catalog",
    ]),
    Group("json", "what looks like JSON, arrays or escapes is still text", [
        "{", "}", "[", "]", ",", ":", '{"a": 1}', "[1, 2", "true", "NaN", "Infinity", "-0", "1e999", "0x10", "\\u0000", "\\\\u0000",
        "\\ud800", "\\x00", "u0000", "{a,b}", "{NULL}", '{"a"', "(1,2)", "[2020-01-01,)", "undefined",
    ]),
    Group("paths", "paths, addresses and templates", [
        "../../etc/passwd", "/dev/null", "C:\\Windows", "\\\\host\\share", "file:///etc/passwd", ".", "..", "~", "a/b//c", "con",
        "https://x.test/?a=b&c=d#e", "<script>alert(1)</script>", "<!--", "]]>", "&amp;", "javascript:alert(1)",
        "${jndi:ldap://x.test}", "{{7*7}}", "$(id)", "`id`", "|cat", "-rf", "=1+1", "@here",
    ]),
    Group("long", "long, and longer than an index entry may be", [
        "x" * 1_000, "é" * 5_000, "x" * 2_704, "x" * 2_705, "0" * 8_192, "ab" * 50_000,
    ]),
)  # fmt: skip
BAD_TEXTS = (
    Group("unstorable", "Postgres stores neither NUL nor half a character", [
        "\0", "a\0b", "\0" * 3, "end\0", "\ud800", "\udfff", "a\ud83d", "\ude00\ud83d", "\udc80", "\udcff" * 9, "\ud800\0",
        b"\xe9t\xe9".decode("utf-8", "surrogateescape"),
    ]),
    Group("not text", "no str", [
        7, 1.5, True, b"a", bytearray(b"a"), ["a"], ("a",), {"a"}, {"a": 1}, object(), decimal.Decimal(1), Plain.ONE,
        pathlib.PurePath("a"), uuid.UUID(int=1), str, len, Ellipsis, memoryview(b"a"),
    ]),
)  # fmt: skip
JSON = (
    Group("numbers", "Postgres keeps decimals, Python has two sorts of numbers", [
        None, True, False, 0, -0.0, 1, -1, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**64), 10**40, 10**400, -(10**4000), 10**5000,
        0.1, 1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, 1e16, 1e22, 123456789.12345679, 1.0, -1.5, float("nan"),
        float("inf"), -float("inf"), [float("nan")], {"a": {"b": float("inf")}}, 0.30000000000000004,
    ]),
    Group("containers", "empty, deep, wide, and with odd keys", [
        [], {}, [[]], [{}], {"": ""}, {"": {"": {}}}, nested(100), nested(100, "dict"), nested(900), nested(5_000), nested(100_000),
        nested(5_000, "dict"), {"a": 1, "A": 2, "á": 3}, {1: "a", "1": "b"}, {True: 1, None: 2, 1.5: 3}, {(1, 2): 3}, {b"a": 1},
        {"__proto__": 1, "constructor": 2, "__class__": 3}, {"a" * 1_000: 1}, {"k" * MEGABYTE: 1}, list(range(10_000)),
        {str(n): n for n in range(2_000)}, [[[]] * 100] * 100, "x" * 200_000, "x" * 300_000, "é" * 140_000, [None] * 1_000, circle(),
        (1, (2, (3,))), Pair((1, 2)),
    ]),
    Group("subclasses", "of what JSON has: their values count, not what they say of themselves", [
        Text("a"), Whole(7), Real(1.5), Items([1]), Colour.RED, Size.LARGE, collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, a=[1]), collections.Counter("aab"), {Colour.RED: Size.LARGE}, [Text("\0")], {Text("k"): Text("v")},
    ]),
    Group("not JSON", "objects that have no JSON", [
        b"a", bytearray(b"a"), memoryview(b"a"), {1, 2}, frozenset(), decimal.Decimal("1.1"), fractions.Fraction(1, 3), 1j,
        datetime(2030, 1, 1, tzinfo=UTC), date(2030, 1, 1), timedelta(1), uuid.UUID(int=1), pathlib.PurePath("a"), range(3),
        iter([1]), object(), int, len, types, Plain.ONE, Record(), Ellipsis, NotImplemented, ValueError("x"), {"a": {1}},
        collections.UserDict(a=1), collections.deque([1]), types.SimpleNamespace(a=1), types.MappingProxyType({"a": 1}), lambda: 1,
        [Record()],
    ]),
)  # fmt: skip
NAMES = (
    Group("names", "of queues and kinds, as far as they are allowed", [
        "a", "A", "0", "-", ".", "..", "_", "a.b:c/d@e-f_g", "null", "true", "select", "x" * 128, "--", "//", Text("sub"), Colour.RED,
    ]),
    Group("bad names", "what would need quotes somewhere, or is too long", [
        "", " ", "a b", "a\n", "\n", "a\0", "ä", "日本", "😀", "\ud800", "x" * 129, "x" * MEGABYTE, "a'b", 'a"b', "a;b", "a%sb", "{a}", "$a",
        "a\\b", "a,b", "a|b", "*", "a+b", "(a)", "<a>", "a=b", "#", "!", "~", "`a`", "^a$", "\u202ea", "a\u200b", "e\u0301", "ａ",
        "١",
    ]),
)  # fmt: skip
TIMES = (
    Group("times", "within the years that every language has", [
        datetime(1970, 1, 1, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=14))),
        datetime(2030, 1, 1, tzinfo=timezone(-timedelta(hours=23, minutes=59))), datetime(2030, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2030, 1, 1, tzinfo=timezone(timedelta(seconds=1))), datetime(2030, 1, 1, fold=1, tzinfo=UTC), None,
    ]),
    Group("bad times", "out of range, naive, or no times", [
        datetime(1899, 12, 31, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))), datetime(2030, 1, 1), datetime.min, datetime.max,  # noqa: DTZ001, DTZ901
        datetime(2030, 1, 1, tzinfo=NoZone()), date(2030, 1, 1), "2030-01-01", 0, 1.9e9, float("nan"), timedelta(1), True, b"now", "now",
    ]),
)  # fmt: skip
SPANS = (
    Group("spans", "of any length that ends in time", [
        timedelta(0), timedelta(microseconds=1), timedelta(days=1), timedelta(days=36_500), timedelta(days=1_000_000),
    ]),
    Group("bad spans", "negative, endless, or no spans", [
        timedelta(microseconds=-1), -timedelta(days=1), timedelta.max, timedelta.min, timedelta(days=3_000_000), 5, 1.5, "5 s", True,
        float("inf"), datetime(2030, 1, 1, tzinfo=UTC), b"1",
    ]),
)  # fmt: skip
NUMBERS = (
    Group("numbers of options", "a bool is no number, nor is a float or text", [
        -1, 10, 2**31, 2**63, 10**100, -(10**5_000), True, False, 1.0, float("nan"), "5", b"5", [5], decimal.Decimal(5), 1j, object(),
        Text("5"),
    ]),
    Group("good numbers", "and their subclasses", [1, 5, 9, Whole(7), Size.LARGE]),
)  # fmt: skip
ALL = (*TEXTS, *BAD_TEXTS, *JSON, *NAMES, *TIMES, *SPANS, *NUMBERS)


def values(groups: Sequence[Group]) -> Iterator[Any]:
    """All values of the groups."""
    for group in groups:
        yield from group.values


def errors() -> Iterator[BaseException]:
    """Exceptions whose texts, names and tracebacks are as bad as they get."""
    for text in (
        *values(TEXTS),
        *values(BAD_TEXTS),
        "x" * MEGABYTE,
        "\0" * MEGABYTE,
        "\ud800" * MEGABYTE,
    ):
        yield ValueError(text)
    yield type("\N{PILE OF POO}", (Exception,), {})("named so")
    yield type("N" * MEGABYTE, (Exception,), {})("a long name")
    yield type("Mute", (Exception,), {"__str__": lambda _: 1 / 0, "__repr__": lambda _: 1 / 0})()
    yield type("Odd", (Exception,), {"__str__": lambda _: "\0\udc80"})()
    yield OSError(2, "\0", "\udcff")
    yield UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\0")
    yield KeyError(b"\xff")
    yield SystemExit("\0")
    yield SyntaxError("\0", ("\udc80", 1, 1, "\0\ud800", 1, 2))
    error = ValueError("\0")
    error.__cause__ = RuntimeError("\ud800" * 100)
    yield error
