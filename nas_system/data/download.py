"""Fetching one small public file whose checksum is known beforehand."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from nas_system.errors import ConfigError
from nas_system.files import fsync_folder

CHUNK_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 10.0
TOTAL_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web, and what proves that it arrived whole."""

    file_name: str
    url: str
    sha256: str
    size: int
    """Bytes; not one more is read."""


class DownloadFailed(ConfigError):
    """The file did not arrive, or is not the expected one. The message is one clause."""


def fetch_into(folder: Path, remote: RemoteFile, *, timeout_s: float = CONNECT_TIMEOUT_S) -> Path:
    """Download into `folder` and return the path. Nothing is written before the checksum is right.

    Raises DownloadFailed for anything between a missing network and a full disk.
    """
    content = _fetch(remote, timeout_s)
    if hashlib.sha256(content).hexdigest() != remote.sha256:
        raise DownloadFailed(
            f"{remote.url} sent another file: the checksum of its {len(content)} bytes differs"
        )
    path = folder / remote.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_shared(path, content)
    except OSError as error:
        raise DownloadFailed(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _fetch(remote: RemoteFile, timeout_s: float) -> bytes:
    content = bytearray()
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    try:
        with urllib.request.urlopen(remote.url, timeout=timeout_s) as response:
            while len(content) <= remote.size and (chunk := response.read(CHUNK_BYTES)):
                content += chunk
                if time.monotonic() > deadline:
                    raise DownloadFailed(f"{remote.url} took more than {TOTAL_TIMEOUT_S:g} s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadFailed(f"{remote.url} cannot be read: {error or type(error).__name__}") from error
    if len(content) > remote.size:
        raise DownloadFailed(f"{remote.url} sent more than the {remote.size} bytes expected")
    if len(content) < remote.size:
        raise DownloadFailed(f"{remote.url} sent {len(content)} of {remote.size} bytes")
    return bytes(content)


def _write_shared(path: Path, content: bytes) -> None:
    """Write atomically, under a unique temporary name: two trainings may fill the same cache at once."""
    descriptor, temporary = tempfile.mkstemp(prefix=path.name + ".", suffix=".tmp", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
