"""A proxy between clients and the server, which does to connections what bad networks do.

It reads enough of the protocol to know where a statement begins and where its answer ends. So a
fault meets the statement that it is meant for, and one is counted only when it has hit.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from psycopg import conninfo

if TYPE_CHECKING:
    from typing_extensions import Self

PORT = "5432"
WAIT = 20.0
"""Seconds for what the proxy's own thread is asked to do."""
_ASKS_FOR_ENCRYPTION = (80877103, 80877104)
_CANCELS = 80877102
_LIMIT = 2**20
"""Bytes: read ahead at most this much of one side."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Kind(enum.Enum):
    """What happens to a connection."""

    BLACK_HOLE = "black hole"
    """From now on nothing gets through in either direction; both ends stay open."""
    MUTE = "mute"
    """The server hears and does it; its answer, and all that follows, is swallowed."""
    HALF_OPEN = "half-open"
    """The server's side ends, and the client is not told."""
    RESET = "reset"
    """Both sides end before the statement gets through."""
    CUT_REPLY = "cut reply"
    """The server has done it; then both sides end, after `keep` bytes of its answer."""
    DELAY = "delay"
    """It gets through `seconds` late."""


SILENT = (Kind.BLACK_HOLE, Kind.MUTE, Kind.HALF_OPEN)
"""Nobody is told of these: only a deadline ends the wait."""


@attrs.define(eq=False)
class Fault:
    """One fault, for the next statement that contains `match`, or for the next connection."""

    kind: Kind
    match: bytes | None = None
    """In lower case; None stands for a new connection."""
    keep: int = 0
    seconds: float = 0.0
    hit: threading.Event = attrs.field(factory=threading.Event, init=False)


class Proxy:
    """Listens on a Unix socket in `folder`, or on loopback, and forwards to the server of `dsn`."""

    def __init__(self, dsn: str, folder: Path | None = None) -> None:
        self._upstream = conninfo.conninfo_to_dict(dsn)
        self._folder = folder
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None
        self.hits: Counter[Kind] = Counter()
        """Faults that have hit."""
        self.dsn = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()

    def add(self, fault: Fault) -> Fault:
        """Lays `fault` in wait."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forgets the faults that have met nobody."""
        with self._lock:
            self._faults.clear()

    def strike(self, kind: Kind) -> int:
        """Does it to all connections at once, whatever they do; returns to how many.

        It counts as one fault, if there are any.
        """

        async def main() -> int:
            struck = sum([line.strike(kind) for line in list(self._lines)])
            self.hits[kind] += struck > 0
            return struck

        return int(self.call(main()))

    def call(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Runs `main` in the proxy's thread."""
        return asyncio.run_coroutine_threadsafe(main, self._loop).result(WAIT)

    def take(self, text: bytes | None) -> Fault | None:
        """The fault that lies in wait for this statement, or for a new connection."""
        with self._lock:
            for fault in self._faults:
                if fault.match is None if text is None else fault.match and fault.match in text:
                    self._faults.remove(fault)
                    return fault
        return None

    def struck(self, fault: Fault) -> None:
        """Counts a fault that has hit."""
        self.hits[fault.kind] += 1
        fault.hit.set()

    async def connect(self) -> Streams:
        """A connection to the server."""
        host, port = str(self._upstream["host"]), str(self._upstream.get("port") or PORT)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}", limit=_LIMIT)
        return await asyncio.open_connection(host, int(port), limit=_LIMIT)

    async def _open(self) -> None:
        if self._folder is not None:
            where = {"host": str(self._folder), "port": PORT}
            path = self._folder / f".s.PGSQL.{PORT}"
            self._server = await asyncio.start_unix_server(self._accept, path, limit=_LIMIT)
        else:
            self._server = server = await asyncio.start_server(
                self._accept, "127.0.0.1", 0, limit=_LIMIT
            )
            where = {"host": "127.0.0.1", "port": str(server.sockets[0].getsockname()[1])}
        parts: dict[str, Any] = {**self._upstream, **where}
        self.dsn = conninfo.make_conninfo(**parts)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(self, (reader, writer))
        self._lines.add(line)
        try:
            await line.run()
        finally:
            self._lines.discard(line)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for line in list(self._lines):
            line.abort()
        while self._lines:  # noqa: ASYNC110 - bounded by `call`
            await asyncio.sleep(0.01)


class _Line:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, client: Streams) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._to_server: asyncio.StreamWriter | None = None
        self._texts: dict[bytes, bytes] = {}
        """Of prepared statements, by name."""
        self._deaf = self._dumb = False
        """Whether what the client says, and what the server says, is swallowed."""
        self._muting: Fault | None = None
        self._cutting: Fault | None = None
        self._reply = b""

    async def run(self) -> None:
        """Forwards until one side ends."""
        try:
            fault = self._proxy.take(None)
            if fault is not None and await self._meet_at_once(fault):
                return
            from_server, self._to_server = await self._proxy.connect()
            up = asyncio.create_task(self._up())
            down = asyncio.create_task(self._down(from_server))
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if self._deaf or self._dumb:  # the client is not to know
                await asyncio.wait((up,))
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        except OSError:  # no server
            pass
        finally:
            self.abort()

    def strike(self, kind: Kind) -> bool:
        """Does it now; false if there is nobody any more."""
        if self._to_client.transport.is_closing() or self._deaf:
            return False
        self._do(kind)
        return True

    def abort(self) -> None:
        """Ends both sides, without a word."""
        for writer in (self._to_client, self._to_server):
            if writer is not None:
                _abort(writer)

    def _do(self, kind: Kind) -> None:
        if kind is Kind.RESET:
            self.abort()
        elif kind is Kind.MUTE:
            self._dumb = True
        else:
            self._deaf = self._dumb = True
            if kind is Kind.HALF_OPEN and self._to_server is not None:
                _abort(self._to_server)

    async def _meet_at_once(self, fault: Fault) -> bool:
        """Whether the connection ends with that."""
        if fault.kind in SILENT and await self._from_client.read(1) == b"":
            return True
        self._proxy.struck(fault)
        if fault.kind is Kind.DELAY:
            await asyncio.sleep(fault.seconds)
            return False
        if fault.kind in SILENT:
            while await self._from_client.read(_LIMIT):
                pass
        return True

    async def _up(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self._begin()
            while True:
                head = await self._from_client.readexactly(5)
                body = await self._from_client.readexactly(_length(head) - 4)
                fault = None if self._deaf else self._fault(head[:1], body)
                if fault is not None:
                    await self._meet(fault)
                await self._say(head + body)

    async def _begin(self) -> None:
        """What comes before messages have types."""
        while True:
            head = await self._from_client.readexactly(4)
            body = await self._from_client.readexactly(int.from_bytes(head, "big") - 4)
            code = int.from_bytes(body[:4], "big")
            if code in _ASKS_FOR_ENCRYPTION:
                self._to_client.write(b"N")
                continue
            await self._say(head + body)
            if code != _CANCELS:
                return

    async def _say(self, message: bytes) -> None:
        if not self._deaf and self._to_server is not None:
            self._to_server.write(message)
            await self._to_server.drain()

    def _fault(self, kind: bytes, body: bytes) -> Fault | None:
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._texts[name] = text.lower()
        elif kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            return self._proxy.take(self._texts.get(name, b""))
        elif kind == b"Q":
            return self._proxy.take(body.lower())
        return None

    async def _meet(self, fault: Fault) -> None:
        """Before the statement gets through."""
        if fault.kind is Kind.CUT_REPLY:
            self._cutting = fault
            return
        if fault.kind is Kind.MUTE:
            self._muting = fault  # counts when there is an answer to swallow
        else:
            self._proxy.struck(fault)
        if fault.kind is Kind.DELAY:
            await asyncio.sleep(fault.seconds)
        else:
            self._do(fault.kind)

    async def _down(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(5)
                message = head + await reader.readexactly(_length(head) - 4)
                if self._cutting is not None:
                    await self._cut(self._cutting, message)
                elif not self._dumb:
                    self._to_client.write(message)
                    await self._to_client.drain()
                elif self._muting is not None and head[:1] == b"Z":
                    self._proxy.struck(self._muting)
                    self._muting = None

    async def _cut(self, fault: Fault, message: bytes) -> None:
        self._reply += message
        if message[:1] != b"Z":
            return
        reply, self._reply, self._cutting = self._reply, b"", None
        if message[5:] == b"E" or _has_error(reply):  # it was not done: wait for the next one
            self._proxy.add(fault)
            self._to_client.write(reply)
            return
        self._proxy.struck(fault)
        self._to_client.write(reply[: min(fault.keep, len(reply) - 1)])
        await self._to_client.drain()
        if fault.keep:
            self._to_client.close()  # an abort may take back what was just written
            assert self._to_server is not None
            _abort(self._to_server)
        else:
            self.abort()


def _length(head: bytes) -> int:
    return int.from_bytes(head[1:5], "big")


def _has_error(messages: bytes) -> bool:
    while messages:
        if messages[:1] == b"E":
            return True
        messages = messages[1 + _length(messages) :]
    return False


def _abort(writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("socket")
    if peer is not None and peer.family == socket.AF_INET and peer.fileno() != -1:
        # So that the other end gets a reset, not an orderly end.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def statement(function: str) -> bytes:
    """What a statement that calls this SQL function of pgqueue contains."""
    return f".{function}(".encode()
