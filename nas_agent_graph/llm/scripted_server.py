"""A mock LLM server: chat completions that answer from a script.

`python -m nas_agent_graph.llm.scripted_server FILE` starts one by hand. For demonstrations and
tests: no model, no network beyond this machine, the standard library only. It plays a good
service, a bad one, and an unusable one (`FAULTS`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from nas_agent_graph.llm.prompt_size import estimate_tokens

_PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Reply:
    """One answer to one request; the defaults are a good answer."""

    text: str = ""
    status: int = 200
    body: str | None = None
    """Sent unchanged, in the place of a chat completion."""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    finish_reason: str = "stop"
    refusal: str | None = None
    prompt_tokens: int | None = None
    """None estimates them."""
    completion_tokens: int | None = None
    reasoning_tokens: int = 0
    cached_tokens: int | None = None
    """Of the prompt; None says nothing about it."""
    hangs: bool = False
    """The connection stays open and nothing comes, until the server is closed."""
    drips: bool = False
    """The same, but a blank is sent every tenth of a second, as from services with a queue."""


def error(status: int, message: str, *, code: str | None = None, **headers: str) -> Reply:
    """Build an error as OpenAI-compatible services send it; `retry_after="3"` becomes a header."""
    body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code}})
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply(status=status, body=body, headers=named)


FAULTS: dict[str, Reply] = {
    "bad_key": error(401, "Incorrect API key provided"),
    "forbidden": error(403, "this model is not for you"),
    "not_found": error(404, "Not Found"),
    "unknown_model": error(404, "The model does not exist", code="model_not_found"),
    "rate_limit": error(429, "slow down", retry_after="1"),
    "long_rate_limit": error(429, "slow down", retry_after="3600"),
    "quota": error(429, "You exceeded your quota", code="insufficient_quota", x_should_retry="false"),
    "server_error": error(500, "internal error"),
    "context": error(400, "maximum context length is 4096 tokens", code="context_length_exceeded"),
    "error_inside": error(200, "upstream provider failed"),
    "hang": Reply(hangs=True),
    "drip": Reply(drips=True),
    "garbage": Reply(body='{"choices": [{"mess'),
    "not_a_completion": Reply(body='{"hello": "world"}'),
    "html": Reply(body="<!DOCTYPE html><html><body>Welcome</body></html>", content_type="text/html"),
    "html_error": Reply(status=502, body="<html><body>Bad Gateway</body></html>", content_type="text/html"),
    "empty": Reply(),
    "refusal": Reply(refusal="I cannot help with that."),
    "content_filter": Reply(finish_reason="content_filter"),
    "truncated": Reply('{"parent": "run_0000", "changes": [', finish_reason="length", completion_tokens=4096),
    "only_thoughts": Reply("<think>the learning rate", finish_reason="length", reasoning_tokens=900),
    "cut_prompt": Reply("{}", prompt_tokens=128),
}
"""Every way to fail that the agent has a defined behaviour for."""

Script = Iterable["Reply | str"] | Callable[[dict[str, Any]], "Reply | str"]


@dataclass
class ScriptedServer:
    """Answers on loopback from a script: an iterable of replies, or a function of the request's body.

    A string is the text of a good answer. When an iterable ends, requests get status 410.
    """

    script: Script
    model: str = "scripted-1"
    formats: Sequence[str] = ("json_schema", "json_object")
    """The answer formats it supports; others get status 400."""
    window: int | None = None
    """It reads so many prompt tokens and silently cuts the rest off."""
    key: str | None = None
    """None accepts any key."""
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list, init=False)
    """Bodies, in the order in which they came."""
    keys: list[str | None] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._next = self.script if callable(self.script) else _from(iter(self.script))
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The value for NAS_LLM_BASE_URL."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        """Release hanging requests and free the port."""
        self._closed.set()
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reply_to(self, path: str, key: str | None, body: dict[str, Any]) -> Reply:
        """Return the reply to a request; one that a real service would refuse uses no script entry."""
        if path != _PATH:
            return FAULTS["not_found"]
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            if self.key is not None and key != f"Bearer {self.key}":
                return FAULTS["bad_key"]
            wanted = (body.get("response_format") or {}).get("type")
            if wanted is not None and wanted not in self.formats:
                return error(400, f"response_format type {wanted!r} is not supported")
            reply = self._next(body)
        return Reply(reply) if isinstance(reply, str) else reply

    def completion(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        """Return a chat completion in the protocol's format."""
        prompt = reply.prompt_tokens
        if prompt is None:
            prompt = sum(estimate_tokens(str(m.get("content"))) for m in body.get("messages", ()))
            prompt = min(prompt, self.window or prompt)
        answered = reply.completion_tokens
        if answered is None:
            answered = estimate_tokens(reply.text) + reply.reasoning_tokens
        message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
        cached = reply.cached_tokens
        details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
        return {
            "id": f"chatcmpl-{len(self.requests)}",
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [{"index": 0, "finish_reason": reply.finish_reason, "message": message}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": answered,
                "total_tokens": prompt + answered,
                "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
                **details,
            },
        }

    def wait_until_closed(self, timeout_s: float | None = None) -> bool:
        """Block for a reply that hangs; return whether the server has been closed."""
        return self._closed.wait(timeout_s)


def _from(replies: Iterator[Reply | str]) -> Callable[[dict[str, Any]], Reply | str]:
    end = error(410, "the script is at its end")
    return lambda _body: next(replies, end)


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two writes; without this the second waits for the client's delayed ACK.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                body = json.loads(raw)
            except ValueError:
                body = None
            if not isinstance(body, dict):
                return self._send(error(400, "the body is no JSON object"), {})
            self._send(server.reply_to(self.path, self.headers.get("Authorization"), body), body)

        def _send(self, reply: Reply, body: dict[str, Any]) -> None:
            if reply.hangs:
                server.wait_until_closed()
                self.close_connection = True
                return
            if reply.drips:
                return self._drip()
            text = json.dumps(server.completion(reply, body)) if reply.body is None else reply.body
            content = text.encode()
            try:
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                # The client has closed the connection, as one does that is killed or times out.
                self.close_connection = True

        def _drip(self) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            try:
                while not server.wait_until_closed(0.1):
                    self.wfile.write(b" ")
            except ConnectionError:
                return

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def read_script(file: Path) -> list[Reply | str]:
    """Read one reply per line: a JSON string or object is an answer, `{"fault": NAME}` one of FAULTS."""
    replies: list[Reply | str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            raise ValueError(f"{file}:{number}: not a line of JSON") from None
        fault = entry.get("fault") if isinstance(entry, dict) else None
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"{file}:{number}: no fault {fault!r}; there are {', '.join(FAULTS)}")
        replies.append(FAULTS[fault] if fault else entry if isinstance(entry, str) else json.dumps(entry))
    if not replies:
        raise ValueError(f"{file}: holds no reply")
    return replies


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m nas_agent_graph.llm.scripted_server", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "file", type=Path, help='replies, one JSON value per line; {"fault": NAME} plays a fault'
    )
    parser.add_argument("--port", type=int, default=8765, help="(default: 8765)")
    parser.add_argument("--once", action="store_true", help="play the file once instead of over and over")
    arguments = parser.parse_args(argv)
    try:
        replies = read_script(arguments.file)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with ScriptedServer(
        replies if arguments.once else itertools.cycle(replies), port=arguments.port
    ) as server:
        print(f"NAS_LLM_BASE_URL={server.url} NAS_LLM_MODEL={server.model}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
