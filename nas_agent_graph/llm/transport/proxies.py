"""The proxy that the environment names for an address. One on this machine is never reached through one."""

from __future__ import annotations

import importlib.util
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

SCHEMES = ("http", "https", "socks5", "socks5h")


class UnusableProxy(OSError):
    """A proxy is named that cannot be used; the text says which variable names it, and what to do."""


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable that names it. Its address may hold a password and is not in the repr."""

    url: str = field(repr=False)
    variable: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"the proxy {parts.scheme}://{parts.hostname}{port} of {self.variable}"


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy of the environment (`https_proxy`, `all_proxy`, `no_proxy`, ...) for an address.

    Raises UnusableProxy where its scheme is unknown, its package is missing or its address is none.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    # As everywhere, the small letters win.
    names = [f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    variable = next((name for name in names if environment.get(name)), None)
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if variable is None or is_loopback(host) or proxy_bypass(host, {"no": exempt}):
        return None
    address = environment[variable]
    address = address if "://" in address else f"http://{address}"
    advice = f"; unset {variable}, or write {host} into NO_PROXY if the service is reached without it"
    try:
        proxy = urlsplit(address)
        named, _ = proxy.hostname, proxy.port
    except ValueError:
        proxy, named = urlsplit(""), None
    if not named:
        raise UnusableProxy(f"{variable} is no address of a proxy, like http://proxy.example:3128{advice}")
    if proxy.scheme not in SCHEMES:
        raise UnusableProxy(
            f"{variable} names a proxy of the scheme {proxy.scheme}://, which is none of {', '.join(SCHEMES)}"
            f"{': write socks5:// for it' if proxy.scheme.startswith('socks') else ''}{advice}"
        )
    if proxy.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise UnusableProxy(
            f"{variable} names a SOCKS proxy, which needs the package socksio: pip install socksio{advice}"
        )
    return Proxy(address, variable)


def is_loopback(host: str) -> bool:
    """Return whether a host's name or number is this machine."""
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified
