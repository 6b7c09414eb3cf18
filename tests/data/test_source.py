"""Where the data comes from: folders, cache, download, stand-in. All over loopback, with a tiny file."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nas_system.data import DataSource, load_series, locate, open_task
from nas_system.data.download import DownloadFailed, RemoteFile, fetch_into
from nas_system.data.source import ETTH1, default_cache_dir
from nas_system.errors import ConfigError
from nas_system.space import ForecastingTask

CONTENT = b"date,OT\n" + b"".join(f"2020-01-{day:02d},{day}.5\n".encode() for day in range(1, 29))
FILE_NAME = "ETTh1.csv"
ETTH1_TASK = ForecastingTask()
NOWHERE = "http://127.0.0.1:9/ETTh1.csv"


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT in the way the path asks for."""

    reader_left = threading.Event()

    def do_GET(self) -> None:
        bodies = {
            "/whole": CONTENT,
            "/cut": CONTENT[:100],
            "/lied": CONTENT[:100],
            "/changed": CONTENT.replace(b"1.5", b"1.6", 1),
            "/html": b"<html>please log in</html>",
            "/huge": CONTENT + bytes(60_000_000 if self.path == "/huge" else 0),
        }
        if self.path not in bodies:
            self.send_error(404)
            return
        body = bodies[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) if self.path == "/lied" else len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.reader_left.set()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def remote_at(url: str) -> RemoteFile:
    return RemoteFile(FILE_NAME, url, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def folder_with(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(content)
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_whole_download_is_cached_and_used_from_there_next_time(server: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = locate(ETTH1_TASK, cache_dir=cache, remote=remote_at(f"{server}/whole"), environ={})
    assert (first.kind, first.path, first.notice) == ("download", cache / FILE_NAME, None)
    assert (cache / FILE_NAME).read_bytes() == CONTENT
    assert files_in(cache) == [FILE_NAME]
    second = locate(ETTH1_TASK, cache_dir=cache, remote=remote_at(NOWHERE), environ={})
    assert second == replace(first, kind="cache")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("cut", "sent 100 of"),
        ("lied", "sent 100 of"),
        ("changed", "sent another file"),
        ("html", "sent 26 of"),
        ("huge", "sent more than the"),
        ("missing", "404"),
    ],
)
@pytest.mark.fault(45)
def test_a_bad_download_leaves_no_file_and_says_why_a_stand_in_is_used(
    server: str, tmp_path: Path, path: str, reason: str
) -> None:
    cache = tmp_path / "cache"
    remote = remote_at(f"{server}/{path}")
    with pytest.raises(DownloadFailed, match=reason):
        fetch_into(cache, remote)
    source = locate(ETTH1_TASK, cache_dir=cache, remote=remote, environ={})
    assert source.kind == "synthetic" and source.path is None
    assert source.notice is not None and reason in source.notice and "GENERATED" in source.notice
    assert "\n" not in source.notice
    assert files_in(cache) == []


@pytest.mark.fault(45)
def test_a_download_without_end_is_not_read_to_its_end(server: str, tmp_path: Path) -> None:
    Server.reader_left.clear()
    with pytest.raises(DownloadFailed, match="sent more than the"):
        fetch_into(tmp_path, remote_at(f"{server}/huge"))
    assert Server.reader_left.wait(timeout=10)


@pytest.mark.parametrize("url", [NOWHERE, "not a url"])
def test_without_a_server_the_stand_in_is_used_and_the_notice_says_so(tmp_path: Path, url: str) -> None:
    source = locate(ETTH1_TASK, cache_dir=tmp_path, remote=remote_at(url), environ={})
    assert source.kind == "synthetic" and source.notice is not None and url in source.notice


def test_downloads_can_be_turned_off(server: str, tmp_path: Path) -> None:
    source = locate(
        ETTH1_TASK, cache_dir=tmp_path, download=False, remote=remote_at(f"{server}/whole"), environ={}
    )
    assert source.kind == "synthetic" and source.notice is not None and "downloads are off" in source.notice
    assert files_in(tmp_path) == []


def test_a_cache_folder_that_cannot_be_made_does_not_end_the_search(server: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    remote = remote_at(f"{server}/whole")
    source = locate(ETTH1_TASK, cache_dir=tmp_path / "taken", remote=remote, environ={})
    assert source.kind == "synthetic" and source.notice is not None and "cannot be written" in source.notice


@pytest.mark.fault(45)
def test_a_damaged_copy_in_the_cache_is_replaced(server: str, tmp_path: Path) -> None:
    folder_with(tmp_path, CONTENT[:50])
    source = locate(ETTH1_TASK, cache_dir=tmp_path, remote=remote_at(f"{server}/whole"), environ={})
    assert source.kind == "download" and (tmp_path / FILE_NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("below", [".", "ETT-small"])
def test_a_named_folder_comes_before_cache_and_web(tmp_path: Path, below: str) -> None:
    named = folder_with(tmp_path / "named" / below).resolve()
    folder_with(tmp_path / "cache")
    for data_dir, environ in ((tmp_path / "named", {}), (None, {"NAS_DATA_DIR": str(tmp_path / "named")})):
        source = locate(
            ETTH1_TASK, data_dir, cache_dir=tmp_path / "cache", remote=remote_at(NOWHERE), environ=environ
        )
        assert (source.kind, source.path, source.name) == ("file", named / FILE_NAME, "ETTh1")


def test_the_flag_comes_before_the_environment(tmp_path: Path) -> None:
    named = folder_with(tmp_path / "flag")
    environ = {"NAS_DATA_DIR": str(tmp_path / "no")}
    source = locate(ETTH1_TASK, named, remote=remote_at(NOWHERE), environ=environ)
    assert source.path == named / FILE_NAME


def test_a_named_folder_without_the_file_is_an_error_not_a_fallback(server: str, tmp_path: Path) -> None:
    folder_with(tmp_path / "cache")
    with pytest.raises(ConfigError, match=f"{tmp_path}/empty holds no ETTh1.csv"):
        locate(
            ETTH1_TASK,
            tmp_path / "empty",
            cache_dir=tmp_path / "cache",
            remote=remote_at(f"{server}/whole"),
            environ={},
        )


def test_a_named_folder_with_another_file_of_that_name_is_an_error(tmp_path: Path) -> None:
    named = folder_with(tmp_path / "named", CONTENT.replace(b"1.5", b"1.6", 1))
    with pytest.raises(ConfigError, match=r"named/ETTh1.csv is not the published ETTh1.csv"):
        locate(ETTH1_TASK, named, remote=remote_at(NOWHERE), environ={})


def test_the_stand_in_asked_for_by_name_needs_no_notice(tmp_path: Path) -> None:
    source = locate(ForecastingTask(dataset="synthetic"), tmp_path)
    assert source.kind == "synthetic" and source.notice is None


def test_an_own_file_is_pinned_by_its_absolute_path_and_checksum(tmp_path: Path) -> None:
    path = folder_with(tmp_path) / FILE_NAME
    source = locate(ForecastingTask(dataset=str(path)))
    assert source == DataSource(
        "ETTh1.csv", "csv", path, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), None
    )
    assert source.path is not None and source.path.is_absolute()


@pytest.mark.parametrize(
    ("dataset", "hint"), [("ETTh1", "did you mean 'etth1'"), ("no/such.csv", "the path of a CSV file")]
)
def test_an_unknown_data_set_is_an_error_with_a_hint(dataset: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no file {dataset!r}; .*{hint}"):
        locate(ForecastingTask(dataset=dataset))


def test_a_source_survives_json(tmp_path: Path) -> None:
    path = folder_with(tmp_path) / FILE_NAME
    for task in (ForecastingTask(dataset=str(path)), ForecastingTask(dataset="synthetic")):
        source = locate(task)
        assert DataSource.from_json(json.loads(json.dumps(source.to_json()))) == source


def test_a_file_that_changed_since_the_search_began_is_refused(tmp_path: Path) -> None:
    path = folder_with(tmp_path) / FILE_NAME
    task = ForecastingTask(dataset=str(path), pred_len=2)
    source = locate(task)
    assert len(open_task(task, source).series) == 28
    path.write_bytes(CONTENT + b"2020-01-29,29.5\n")
    with pytest.raises(ConfigError, match="has changed since the search began"):
        load_series(source, task)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_series(source, task)


def test_another_generated_series_than_the_search_began_with_is_refused() -> None:
    task = ForecastingTask(dataset="synthetic")
    with pytest.raises(ConfigError, match="generated series differs"):
        load_series(replace(locate(task), sha256="0" * 64), task)


def test_a_missing_target_is_refused_with_the_columns_there_are() -> None:
    task = ForecastingTask(dataset="synthetic", targets=("OT", "HUFF"))
    with pytest.raises(ConfigError, match=r"no column 'HUFF'; did you mean 'HUFL'\? \(columns: .*, OT\)"):
        open_task(task)


def test_the_cache_folder_follows_the_xdg_rule(tmp_path: Path) -> None:
    assert default_cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "nas_system"
    assert default_cache_dir({}) == Path.home() / ".cache" / "nas_system"


def test_the_real_file_is_the_published_one(ett_dir: Path) -> None:
    source = locate(ETTH1_TASK, ett_dir)
    assert (source.kind, source.sha256, source.bytes) == ("file", ETTH1.sha256, 2_589_657)
