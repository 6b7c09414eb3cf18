"""Where a task's series comes from: decided once per search, then fixed by its checksum."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nas_system.data import synthetic
from nas_system.data.download import DownloadFailed, RemoteFile, fetch_into
from nas_system.errors import ConfigError
from nas_system.files import sha256_of_file
from nas_system.space.task_info import DataSource as DataSource
from nas_system.space.task_info import SourceKind
from nas_system.space.tasks import ForecastingTask

ETTH1 = RemoteFile(
    file_name="ETTh1.csv",
    url="https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
    sha256="f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    size=2_589_657,
)
"""Electricity transformer data of Zhou et al. (AAAI 2021), CC BY-ND 4.0: fetched, never shipped."""

DATA_DIR_VARIABLE = "NAS_DATA_DIR"
BUILT_IN = ("etth1", "synthetic")


def locate(
    task: ForecastingTask,
    data_dir: Path | None = None,
    *,
    cache_dir: Path | None = None,
    download: bool = True,
    remote: RemoteFile = ETTH1,
    environ: Mapping[str, str] = os.environ,
) -> DataSource:
    """Find the data of `task`.

    `etth1` is looked for in `data_dir` or $NAS_DATA_DIR, then in the cache, then on the web; when
    all that fails the generated series is used, and `notice` says so. A folder that is named must
    hold the file: if it is missing, or another file has its name, that is a ConfigError.
    """
    if task.dataset == "synthetic":
        return _generated()
    if task.dataset != "etth1":
        return _own_csv(task.dataset, data_dir)
    if data_dir is None and environ.get(DATA_DIR_VARIABLE):
        data_dir = Path(environ[DATA_DIR_VARIABLE])
    if data_dir is not None:
        return _in_named_folder(data_dir.expanduser().absolute(), remote)
    folder = (cache_dir or default_cache_dir(environ)).absolute()
    cached = folder / remote.file_name
    if cached.is_file() and _has_checksum(cached, remote):
        return _file_source("cache", cached, remote)
    if not download:
        return _stand_in(remote, "no copy in the cache, downloads are off")
    try:
        return _file_source("download", fetch_into(folder, remote), remote)
    except DownloadFailed as error:
        return _stand_in(remote, str(error))


def default_cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return $XDG_CACHE_HOME/nas_system, or ~/.cache/nas_system."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nas_system"


def _in_named_folder(folder: Path, remote: RemoteFile) -> DataSource:
    for path in (folder / remote.file_name, folder / "ETT-small" / remote.file_name):
        if path.is_file():
            if _has_checksum(path, remote):
                return _file_source("file", path, remote)
            raise ConfigError(
                f"{path} is not the published {remote.file_name} (its checksum differs); replace it, or "
                "give the path itself as the data set to use it as your own CSV file"
            )
    raise ConfigError(
        f"{folder} holds no {remote.file_name} (nor ETT-small/{remote.file_name}); put it there, or leave "
        f"out --data-dir and {DATA_DIR_VARIABLE} to download it"
    )


def _own_csv(dataset: str, data_dir: Path | None) -> DataSource:
    path = Path(dataset).expanduser().absolute()
    if not path.is_file() and data_dir is not None:
        path = data_dir.expanduser().absolute() / path.name
    if not path.is_file():
        close = difflib.get_close_matches(dataset.lower(), BUILT_IN, n=1)
        known = f"use {', '.join(BUILT_IN)} or the path of a CSV file"
        hint = f"did you mean {close[0]!r}?" if close else known
        raise ConfigError(f"there is no data set and no file {dataset!r}; {hint}")
    try:
        return DataSource(path.name, "csv", path, sha256_of_file(path), path.stat().st_size)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _has_checksum(path: Path, remote: RemoteFile) -> bool:
    try:
        return path.stat().st_size == remote.size and sha256_of_file(path) == remote.sha256
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _file_source(kind: SourceKind, path: Path, remote: RemoteFile) -> DataSource:
    return DataSource(remote.file_name.removesuffix(".csv"), kind, path, remote.sha256, remote.size)


def _generated() -> DataSource:
    checksum, size = synthetic.checksum_of(synthetic.synthetic_series().values)
    return DataSource("synthetic", "synthetic", None, checksum, size)


def _stand_in(remote: RemoteFile, reason: str) -> DataSource:
    return replace(
        _generated(),
        notice=(
            f"{remote.file_name} is not here ({reason}): a GENERATED series stands in for it, so no score "
            "can be compared with a published one; to use the real one, put it in a folder and name that by "
            f"--data-dir or {DATA_DIR_VARIABLE}"
        ),
    )
