"""One question over HTTP, under a provider's SDK: bounded in bytes and in time, and it stays with its host.

The SDK itself reads a body of any length, restarts its timeout with every byte, and follows a
redirect to any host with the whole prompt.
"""

from __future__ import annotations

import importlib
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Any

from nas_agent_graph.llm.completion import TokenCounts, read_completion

MAX_BODY_BYTES = 4 * 2**20
"""Of one answer, after decompression. The longest answers of today's models have less than one MiB."""
_MOST_REDIRECTS = 5
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class Exchange:
    """One question with all tries of the SDK, each of which ends after `timeout_s`."""

    def __init__(self, sdk: ModuleType, timeout_s: float) -> None:
        self.counts = TokenCounts()
        """What the last answer with a good status reports."""
        self.too_long = False
        """Whether that answer was cut off at MAX_BODY_BYTES."""
        self._sdk = sdk
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._expired = self._abandoned = False

    def http_client(self) -> Any:
        """Build the client that the SDK sends with. Proxies in the environment hold as usual."""
        exchange, httpx = self, _http_library(self._sdk)

        class Client(self._sdk.DefaultHttpxClient):
            def send(self, request: Any, **options: Any) -> Any:
                return exchange._send(super().send, request, options, httpx.ReadTimeout)

        return Client(verify=_ssl_context(httpx), headers={"Accept-Encoding": "identity"})

    def abandon(self) -> None:
        """End the try that is running and allow no other: nobody waits for the answer any more."""
        self._abandoned = True
        self._shut_down()

    def _send(
        self, send: Callable[..., Any], request: Any, options: dict[str, Any], late: type[Exception]
    ) -> Any:
        """Return the whole response to one try. Raises `late` once the time for it is over."""
        self._expired = False
        timer = threading.Timer(self._timeout_s, self._expire)
        timer.daemon = True
        timer.start()
        request.extensions = {**request.extensions, "trace": self._watch}
        try:
            response = _sent(send, request, options | {"stream": True, "follow_redirects": False})
            content = _body(response)
        except Exception:
            if self._expired:
                raise late("the answer does not end") from None
            raise
        finally:
            timer.cancel()
        # A body without a length ends where the connection does, so that it looks whole.
        if self._expired:
            raise late("the answer does not end")
        return self._readable(response, content)

    def _readable(self, response: Any, content: bytes) -> Any:
        """Return the response as the SDK can read it, with nothing left to decompress."""
        if response.is_success:
            self.too_long = len(content) > MAX_BODY_BYTES
            content, self.counts = read_completion(content)
        headers = {name: response.headers[name] for name in response.headers if name not in _OF_THE_BODY}
        # Without its parameters: a charset may name any codec of Python's, decompressors too.
        headers["content-type"] = response.headers.get("content-type", "").partition(";")[0]
        return type(response)(
            response.status_code, headers=headers, content=content, request=response.request
        )

    def _watch(self, _event: str, info: Mapping[str, Any]) -> None:
        """Keep the connection that the HTTP library reports: it can be ended from another thread."""
        about = getattr(info.get("return_value"), "get_extra_info", None)
        if about is not None:
            self._socket = about("socket")
            if self._expired or self._abandoned:
                self._shut_down()

    def _expire(self) -> None:
        self._expired = True
        self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            # The plain socket's method: that of TLS is not meant for two threads.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")


def _sent(send: Callable[..., Any], request: Any, options: Mapping[str, Any]) -> Any:
    """Send, and follow redirects as long as they stay with the host."""
    response = send(request, **options)
    for _ in range(_MOST_REDIRECTS):
        onward = response.next_request
        if onward is None or _origin(onward.url) != _origin(request.url):
            break
        response.close()
        response = send(onward, **options)
    return response


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _body(response: Any) -> bytes:
    """Read the body, at most one byte more than an answer may have, and close the response."""
    body = bytearray()
    try:
        for part in _decoded(response):
            body += part
            if len(body) > MAX_BODY_BYTES:
                break
    finally:
        response.close()
    return bytes(body[: MAX_BODY_BYTES + 1])


def _decoded(response: Any) -> Iterator[bytes]:
    """Yield parts of a bounded size. We ask for no compression; some proxies compress all the same."""
    if response.headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip", "deflate"):
        yield from response.iter_raw()
        return
    inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
    for part in response.iter_raw():
        try:
            yield inflate.decompress(part, MAX_BODY_BYTES + 1)
        except zlib.error:
            return
        if inflate.eof:
            return


@cache
def _ssl_context(httpx: ModuleType) -> ssl.SSLContext:
    """Return the HTTP library's usual context; to build it takes as long as all the rest."""
    return httpx.create_ssl_context()


def _http_library(sdk: ModuleType) -> ModuleType:
    """Return httpx or, for newer SDKs, its successor of the same interface."""
    return importlib.import_module(sdk.DefaultHttpxClient.__base__.__module__)
