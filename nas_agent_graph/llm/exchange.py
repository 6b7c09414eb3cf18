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
from nas_agent_graph.llm.transport.causes import UnusableCertificates
from nas_agent_graph.llm.transport.proxies import Proxy, proxy_for

MAX_BODY_BYTES = 4 * 2**20
"""Of one answer, after decompression. The longest answers of today's models have less than one MiB."""
_MOST_REDIRECTS = 5
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class Exchange:
    """One question with all tries of the SDK, each of which ends after `timeout_s`."""

    def __init__(self, sdk: ModuleType, timeout_s: float, url: str, environment: Mapping[str, str]) -> None:
        self.counts = TokenCounts()
        """What the last answer with a good status reports."""
        self.too_long = False
        """Whether that answer was cut off at MAX_BODY_BYTES."""
        self.habits: tuple[str, ...] = ()
        """What the server did differently from others in that answer."""
        self.inside: bool = False
        """Whether that answer was an error with a good status."""
        self.proxy: Proxy | None = None
        """The one that the question goes through."""
        self._sdk, self._url, self._environment = sdk, url, environment
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._expired = self._abandoned = False

    def http_client(self) -> Any:
        """Build the client that the SDK sends with, through the proxy that the environment names.

        Raises UnusableProxy or UnusableCertificates, which say what to do.
        """
        exchange, httpx = self, _http_library(self._sdk)
        self.proxy = proxy_for(self._url, self._environment)

        class Client(self._sdk.DefaultHttpxClient):
            def send(self, request: Any, **options: Any) -> Any:
                return exchange._send(super().send, request, options, httpx.ReadTimeout)

        return Client(
            verify=_ssl_context(httpx, self._url, self._environment),
            proxy=self.proxy and self.proxy.url,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
        )

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
        status = response.status_code
        if response.is_success:
            self.too_long = len(content) > MAX_BODY_BYTES
            read = read_completion(content, response.headers.get("content-type", ""))
            content, self.counts, self.habits = read.body, read.counts, read.habits
            # The SDK tries again what may pass only if it has the status of an error.
            self.inside, status = read.status is not None, read.status or status
        headers = {name: response.headers[name] for name in response.headers if name not in _OF_THE_BODY}
        # Without its parameters: a charset may name any codec of Python's, decompressors too.
        headers["content-type"] = response.headers.get("content-type", "").partition(";")[0]
        if self.habits or self.inside:
            headers["content-type"] = "application/json"
        return type(response)(status, headers=headers, content=content, request=response.request)

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


def _ssl_context(httpx: ModuleType, url: str, environment: Mapping[str, str]) -> ssl.SSLContext:
    """Return what certificates are checked with: SSL_CERT_FILE or SSL_CERT_DIR, else the HTTP library's."""
    if not url.startswith("https:"):
        # Never used: redirects stay with the host and its scheme, so nothing has to be read.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if named := environment.get(variable):
            try:
                return _context_of(httpx, variable, named)
            except (OSError, ValueError):
                raise UnusableCertificates(
                    f"{variable}={named!r} cannot be read as certificates: name a file in the PEM format"
                ) from None
    return _context_of(httpx, "", "")


@cache
def _context_of(httpx: ModuleType, variable: str, named: str) -> ssl.SSLContext:
    """Build the context; it takes as long as all the rest."""
    if not variable:
        return httpx.create_ssl_context(trust_env=False)
    if variable == "SSL_CERT_FILE":
        return ssl.create_default_context(cafile=named)
    return ssl.create_default_context(capath=named)


def _http_library(sdk: ModuleType) -> ModuleType:
    """Return httpx or, for newer SDKs, its successor of the same interface."""
    return importlib.import_module(sdk.DefaultHttpxClient.__base__.__module__)
