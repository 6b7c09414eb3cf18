"""Files that others may have put in the way: nothing is written through them, and nothing waits for them."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from nas_system.files import RecordCache, append_durably, open_regular_file, read_record, write_json


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere/precious"
    file.write_text('{"key": "secret"}')
    return file


def test_a_link_in_the_place_of_the_temporary_file_is_not_written_through(
    tmp_path: Path, precious: Path
) -> None:
    (tmp_path / "exit.json.tmp").symlink_to(precious)
    write_json(tmp_path / "exit.json", {"attempt": 1})
    assert precious.read_text() == '{"key": "secret"}'
    assert read_record(tmp_path / "exit.json") == {"attempt": 1}
    assert not os.path.lexists(tmp_path / "exit.json.tmp")


def test_a_hard_link_in_its_place_is_not_written_through_either(tmp_path: Path, precious: Path) -> None:
    os.link(precious, tmp_path / "exit.json.tmp")
    write_json(tmp_path / "exit.json", {"attempt": 1})
    assert precious.read_text() == '{"key": "secret"}'


def test_a_link_in_the_place_of_the_file_is_replaced(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "exit.json").symlink_to(precious)
    write_json(tmp_path / "exit.json", {"attempt": 1})
    assert precious.read_text() == '{"key": "secret"}'
    assert not (tmp_path / "exit.json").is_symlink()


def test_fifos_in_their_places_are_replaced_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "exit.json")
    os.mkfifo(tmp_path / "exit.json.tmp")
    write_json(tmp_path / "exit.json", {"attempt": 1})
    assert read_record(tmp_path / "exit.json") == {"attempt": 1}


def test_folders_in_their_places_are_set_aside_with_what_is_in_them(tmp_path: Path) -> None:
    for name in ("verdict.json", "verdict.json.tmp"):
        (tmp_path / name / "deep").mkdir(parents=True)
    write_json(tmp_path / "verdict.json", {"accepted": True})
    assert read_record(tmp_path / "verdict.json") == {"accepted": True}
    assert (tmp_path / "verdict.json.damaged/deep").is_dir()
    assert (tmp_path / "verdict.json.tmp.damaged/deep").is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a device")
def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(FileExistsError, match="is a device"):
        write_json(tmp_path / "null", {})
    (tmp_path / "null").rename(tmp_path / "exit.json.tmp")
    with pytest.raises(FileExistsError, match="is a device"):
        write_json(tmp_path / "exit.json", {})


@pytest.mark.parametrize("make", ["link", "fifo", "device"])
def test_nothing_is_appended_to_what_is_no_file(tmp_path: Path, precious: Path, make: str) -> None:
    path = tmp_path / "transcript.jsonl"
    if make == "link":
        path.symlink_to(precious)
    elif make == "fifo":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    with pytest.raises(OSError, match=r"is not a regular file|symbolic links|No such device"):
        append_durably(path, b"line\n")
    assert precious.read_text() == '{"key": "secret"}'


def test_a_link_is_read_only_where_a_person_has_named_it(tmp_path: Path, precious: Path) -> None:
    link = tmp_path / "train.log"
    link.symlink_to(precious)
    with pytest.raises(ValueError, match="is a link"):
        open_regular_file(link)
    assert read_record(link) is None
    with open_regular_file(link, follow_link=True) as file:
        assert b"secret" in file.read()


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "history.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "metrics.json")
    assert read_record(tmp_path / "history.json") is None
    assert read_record(tmp_path / "metrics.json") is None
    with pytest.raises(ValueError, match="is not a file"):
        open_regular_file(tmp_path / "history.json", follow_link=True)


def test_a_record_is_read_again_after_any_change_and_only_then(tmp_path: Path) -> None:
    path, records = tmp_path / "record.json", RecordCache()
    assert records.read(path) is None
    for content, expected in (
        ('{"a": 1}', {"a": 1}),
        ('{"a": 2}', {"a": 2}),  # as long, and a moment later
        ("{", None),
        ('{"a": 3}', {"a": 3}),
    ):
        path.write_text(content)
        assert records.read(path) == expected
    write_json(path, {"a": 4})
    assert records.read(path) == {"a": 4}
    time.sleep(2.1)  # a file that has just changed is not taken for known
    assert records.read(path) is records.read(path)
    path.write_text('{"a": 5}')
    assert records.read(path) == {"a": 5}
    path.unlink()
    assert records.read(path) is None
