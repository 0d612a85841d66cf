"""A third party's HTTP API, for the examples: well behaved until it is told otherwise.

POST, PUT, PATCH and DELETE take effect and answer 200; a repeated Idempotency-Key gets the first
answer again and has no second effect. GET answers what was put at its path, or 404.

    with third_party() as api:
        api.put("/media/7", {"kind": "image"})     # what GET answers
        api.next(3, "error")                       # the next three requests answer 500
        api.next(1, "busy", path="/people", retry_after=2)
        ...
        print(api.calls, api.effects)

By hand, `python examples/third_party.py` serves it on port 8900, and prints what comes in:

    curl localhost:8900/_next -d '{"times": 3, "trouble": "error", "path": "/people"}'
    curl localhost:8900/_effects
"""

import argparse
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

TROUBLES = {
    "error": "answers 500, without effect",
    "busy": "answers 429 with a Retry-After, without effect",
    "refusal": "answers 422, without effect, as it would again",
    "slow": "takes effect, and answers too late",
    "reset": "takes effect, and breaks the connection in the middle of the answer",
    "garbage": "takes effect, and answers 200 with what is no JSON",
}
_STATUS = {"error": 500, "busy": 429, "refusal": 422}


@attrs.define
class Trouble:
    """What shall go wrong, and how often."""

    times: int
    trouble: str = attrs.field(validator=attrs.validators.in_(TROUBLES))
    path: str | None = None
    retry_after: float = 1
    seconds: float = 60


@attrs.frozen
class Call:
    """A request that came in."""

    method: str
    path: str
    body: Any
    key: str | None
    """Its Idempotency-Key."""
    headers: dict[str, str]
    trouble: str | None
    """What went wrong with it, on purpose."""


@attrs.define
class ThirdParty:
    """What the API has seen, and what it shall do next. May be used from any thread."""

    url: str
    calls: list[Call] = attrs.field(factory=list)
    effects: list[Call] = attrs.field(factory=list)
    """Those of the calls that have changed something."""
    closing: threading.Event = attrs.field(factory=threading.Event, repr=False)
    _content: dict[str, Any] = attrs.field(factory=dict)
    _troubles: list[Trouble] = attrs.field(factory=list)
    _answers: dict[str, Any] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)

    def next(
        self,
        times: int,
        trouble: str,
        *,
        path: str | None = None,
        retry_after: float = 1,
        seconds: float = 60,
    ) -> None:
        """The next so many requests (to `path`) go wrong in that way, one of TROUBLES.

        Args:
            times: how many.
            trouble: how.
            path: only requests whose path begins so; the query is a part of it.
            retry_after: seconds, what "busy" says.
            seconds: how late "slow" answers.
        """
        with self._lock:
            self._troubles.append(Trouble(times, trouble, path, retry_after, seconds))

    def put(self, path: str, content: Any) -> None:
        """From now on GET answers this, as JSON."""
        with self._lock:
            self._content[path] = content

    def got(self, call: Call) -> tuple[int, Any]:
        """Notes a call; gives the status and the content of its answer."""
        with self._lock:
            self.calls.append(call)
            if call.trouble in _STATUS:
                return _STATUS[call.trouble], {"error": call.trouble}
            if call.method == "GET":
                found = call.path in self._content
                return (200, self._content[call.path]) if found else (404, {"error": "not found"})
            if call.key is not None and call.key in self._answers:
                return 200, self._answers[call.key]
            self.effects.append(call)
            answer = {"id": len(self.effects)}
            if call.key is not None:
                self._answers[call.key] = answer
            return 200, answer

    def trouble_for(self, path: str) -> Trouble | None:
        """The next trouble that is meant for a request to `path`."""
        with self._lock:
            for each in self._troubles:
                if each.times > 0 and path.startswith(each.path or ""):
                    each.times -= 1
                    return each
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of the default, 5, a crowd of callers is reset


class _Handler(BaseHTTPRequestHandler):
    api: ThirdParty
    says: bool

    def _answer(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.path.startswith("/_"):
            self._send(200, self._by_hand(text))
            return
        trouble = self.api.trouble_for(self.path)
        how = None if trouble is None else trouble.trouble
        key = self.headers.get("Idempotency-Key")
        body = json.loads(text) if text else None
        call = Call(self.command, self.path, body, key, dict(self.headers), how)
        status, content = self.api.got(call)
        if self.says:
            print(self.command, self.path, text, "->", how or status, flush=True)
        if trouble is None or how in ("error", "refusal"):
            self._send(status, content)
        elif how == "busy":
            self._send(status, content, {"Retry-After": f"{trouble.retry_after:g}"})
        elif how == "slow":
            self.api.closing.wait(trouble.seconds)
            self._send(status, content)
        elif how == "garbage":
            self._write(status, b"<html>Bad gateway", {})
        else:
            self._reset()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _by_hand(self, text: str) -> Any:
        if self.path == "/_next":
            self.api.next(**json.loads(text))
        elif self.path == "/_put":
            self.api.put(**json.loads(text))
        elif self.path == "/_effects":
            return [attrs.asdict(effect) for effect in self.api.effects]
        return {"do": ["/_next", "/_put", "/_effects"], "troubles": TROUBLES}

    def _send(self, status: int, content: Any, more: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._write(status, body, {"Content-Type": "application/json", **(more or {})})

    def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        with contextlib.suppress(ConnectionError):  # who called may not have waited
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _reset(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"id": ')
        # Closed so, it does not end in order: the kernel resets it.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def third_party(port: int = 0, *, says: bool = False) -> Iterator[ThirdParty]:
    """Serve it on the loopback interface while the block runs; port 0 takes a free one."""
    handler: type[_Handler] = type("Handler", (_Handler,), {"says": says})
    server = _Server(("127.0.0.1", port), handler)
    api = handler.api = ThirdParty(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield api
    finally:
        api.closing.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A third party's API that misbehaves on order.")
    parser.add_argument("--port", type=int, default=8900)
    with third_party(parser.parse_args().port, says=True) as api:
        print("serving", api.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
