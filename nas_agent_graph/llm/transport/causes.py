"""Why no connection came about: the name, the port, the certificate or the proxy, each with its remedy."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from nas_agent_graph.llm.transport.proxies import Proxy, UnusableProxy

_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
_SELF_SIGNED = (18, 19, 20, 21)
"""OpenSSL's X509_V_ERR_*: self-signed, or issued by an authority that is not known here."""
_EXPIRED, _NOT_YET_VALID, _OTHER_HOST = 10, 9, 62


class Cause(NamedTuple):
    """Why no connection came about."""

    kind: str
    """proxy, dns, tls, refused or unreachable."""
    advice: str


class UnusableCertificates(OSError):
    """The environment names certificates that cannot be read; the text says where."""


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def cause_of(error: BaseException, url: str, proxy: Proxy | None) -> Cause:
    """Return why an SDK's exception says that nothing was reached."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    place = f"{parts.hostname}:{port}"
    for found in chain_of(error):
        if isinstance(found, UnusableProxy):
            return Cause("proxy", str(found))
        if isinstance(found, UnusableCertificates):
            return Cause("tls", str(found))
        if isinstance(found, ssl.SSLError):
            return Cause("tls", _tls_advice(found, place))
        if proxy is not None and (isinstance(found, OSError) or type(found).__name__ == "ProxyError"):
            return Cause("proxy", _proxy_advice(found, proxy, parts.hostname or ""))
        if isinstance(found, socket.gaierror):
            return Cause(
                "dns",
                f"the name {parts.hostname!r} cannot be resolved (DNS): check it in NAS_LLM_BASE_URL, "
                "the network, and whether this machine needs a proxy (https_proxy)",
            )
        if isinstance(found, ConnectionRefusedError):
            return Cause(
                "refused",
                f"the connection was refused, nothing listens at {place}: start the server, or check the "
                "port in NAS_LLM_BASE_URL",
            )
        if isinstance(found, OSError) and found.errno in _NO_ROUTE:
            return Cause(
                "unreachable", f"there is no route to {place}: check the network and NAS_LLM_BASE_URL"
            )
    return Cause("unreachable", "the server cannot be reached: check NAS_LLM_BASE_URL and that it runs")


def _tls_advice(error: ssl.SSLError, place: str) -> str:
    number = getattr(error, "verify_code", None)
    if number in _SELF_SIGNED:
        return (
            f"the certificate of {place} is not trusted here (TLS): set SSL_CERT_FILE to a file with the "
            "certificate of its authority in the PEM format"
        )
    if number in (_EXPIRED, _NOT_YET_VALID):
        return f"the certificate of {place} is not valid today (TLS): renew it, or check this machine's clock"
    if number == _OTHER_HOST or "match" in str(error):
        return f"the certificate of {place} belongs to another name (TLS): check NAS_LLM_BASE_URL"
    if "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error):
        return f"{place} does not speak TLS: write http:// in NAS_LLM_BASE_URL, or the port that serves https"
    reason = (error.reason or "no reason given").replace("_", " ").lower()
    return f"no encrypted connection to {place} (TLS: {reason}): check NAS_LLM_BASE_URL and SSL_CERT_FILE"


def _proxy_advice(error: BaseException, proxy: Proxy, host: str) -> str:
    if isinstance(error, ConnectionRefusedError):
        what = "refuses the connection"
    elif isinstance(error, socket.gaierror):
        what = "has a name that cannot be resolved (DNS)"
    else:
        what = f"fails ({' '.join(str(error).split())[:100]})"
    return (
        f"{proxy} {what}: start it, correct or unset {proxy.variable}, or write {host} into NO_PROXY if the "
        "service is reached without it"
    )
