"""What crosses from the folder of a training into that of its run, and what a next attempt finds there.

Hostile contents are the business of tests/sandbox.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nas_system.processes.run_files import LARGEST_ERRORS_BYTES, RunPaths
from nas_system.processes.work_folder import LARGEST_PICTURE_BYTES, WorkFolder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    (tmp_path / "run_0001").mkdir()
    return RunPaths(tmp_path / "run_0001")


def test_what_is_known_by_name_crosses_with_a_mode_of_its_own_and_the_folder_goes(run: RunPaths) -> None:
    work = WorkFolder(run.folder, math.inf)
    names = ("best_model.pth", "history.json", "metrics.json", "predictions.png", "val_errors.npy")
    for name in (*names, "unknown.txt"):
        (run.work / name).write_text(name)
    (run.work / "best_model.pth").chmod(0o4777)
    assert work.publish() == {}
    work.close(keep=True)
    assert sorted(os.listdir(run.folder)) == list(names)
    assert run.best_model.read_text() == "best_model.pth"
    assert stat.S_IMODE(run.best_model.stat().st_mode) & 0o7000 == 0


def test_a_training_that_can_go_on_keeps_its_folder(run: RunPaths) -> None:
    work = WorkFolder(run.folder, math.inf)
    (run.work / "last.pth").write_text("epoch 3")
    work.publish()
    work.close(keep=True)
    assert (run.work / "last.pth").read_text() == "epoch 3"
    assert not run.last.exists()
    WorkFolder(run.folder, math.inf).close(keep=False)
    assert not run.work.exists()


def test_the_weights_of_every_origin_cross_and_a_next_attempt_knows_which_have_ended(run: RunPaths) -> None:
    work = WorkFolder(run.folder, math.inf)
    for path in (run.last, run.best_model, run.origin(1), run.origin(9), run.origins):
        (run.work / path.name).write_text(path.name)
    assert work.publish() == {}
    work.close(keep=True)
    assert sorted(os.listdir(run.folder)) == ["best_model.pth", "origin_1.pth", "origin_9.pth", "work"]
    again = WorkFolder(run.folder, math.inf)
    again.begin()
    kept = ["best_model.pth", "last.pth", "origin_1.pth", "origin_9.pth", "origins.json"]
    assert sorted(os.listdir(run.work)) == kept
    again.close(keep=False)


def test_a_training_begun_by_an_older_version_goes_on_in_the_folder_of_today(run: RunPaths) -> None:
    for path in (run.last, run.best_model, run.history, run.metrics):
        path.write_text(path.name)
    work = WorkFolder(run.folder, math.inf)
    work.begin()
    assert sorted(os.listdir(run.work)) == ["best_model.pth", "history.json", "last.pth"]
    assert sorted(os.listdir(run.folder)) == ["best_model.pth", "history.json", "work"]
    work.close(keep=False)


def test_results_of_an_earlier_attempt_are_no_results_of_this_one(run: RunPaths) -> None:
    run.best_model.write_text("of the first attempt")
    work = WorkFolder(run.folder, math.inf)
    for name in ("metrics.json", "error.json", "val_errors.npy"):
        (run.folder / name).write_text("old")
        (run.work / name).write_text("old")
    work.begin()
    assert os.listdir(run.work) == []
    assert sorted(os.listdir(run.folder)) == ["best_model.pth", "work"]


def test_nothing_of_an_attempt_but_its_checkpoints_reaches_the_next(run: RunPaths, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("precious")
    work = WorkFolder(run.folder, math.inf)
    (run.work / "last.pth").write_text("epoch 3")
    (run.work / "best_model.pth").symlink_to(tmp_path / "precious/file")
    (run.work / "cache").symlink_to(tmp_path / "precious")
    (run.work / "packages/deep").mkdir(parents=True)
    (run.work / "packages/deep/link").symlink_to(tmp_path / "precious")
    (run.work / "metrics.json").mkdir()
    os.mkfifo(run.work / "tmp")
    deep = run.work / "deep"
    for _ in range(200):
        deep /= "d"
    deep.mkdir(parents=True)
    (run.work / "deep").chmod(0o300)
    work.begin()
    assert os.listdir(run.work) == ["last.pth"]
    assert (tmp_path / "precious/file").read_text() == "precious"


def test_a_folder_in_the_place_of_a_result_is_set_aside_with_what_is_in_it(run: RunPaths) -> None:
    run.metrics.mkdir()
    (run.metrics / "somebody's").write_text("precious")
    work = WorkFolder(run.folder, math.inf)
    work.begin()
    assert not run.metrics.exists()
    assert (run.folder / "metrics.json.damaged/somebody's").read_text() == "precious"
    work.close(keep=False)


def test_what_is_too_large_stays_behind_and_says_so(run: RunPaths) -> None:
    work = WorkFolder(run.folder, 1000)
    (run.work / "best_model.pth").write_bytes(bytes(1001))
    (run.work / "predictions.png").touch()
    os.truncate(run.work / "predictions.png", LARGEST_PICTURE_BYTES + 1)
    (run.work / "val_errors.npy").touch()
    os.truncate(run.work / "val_errors.npy", LARGEST_ERRORS_BYTES + 1)
    refused = work.publish()
    assert refused["best_model.pth"] == "has 1,001 bytes, more than any such file may have"
    assert set(refused) == {"best_model.pth", "predictions.png", "val_errors.npy"}
    assert sorted(os.listdir(run.folder)) == ["work"]


FULL = """
import json, math, os, pathlib, sys
from nas_system.processes.run_files import RunPaths
from nas_system.processes.work_folder import WorkFolder
run = RunPaths(pathlib.Path('run_0001'))
run.folder.mkdir()
work = WorkFolder(run.folder, math.inf)
(run.work / 'best_model.pth').write_bytes(b'w' * 200_000)
(run.work / 'last.pth').write_text('epoch 3')
with open('ballast', 'wb', 0) as ballast:
    try:
        while True: ballast.write(bytes(512))
    except OSError:
        pass
refused = work.publish()
work.close(keep=True)
os.unlink('ballast')
again = WorkFolder(run.folder, math.inf)
again.begin()
print(json.dumps([refused, run.best_model.stat().st_size, sorted(os.listdir(run.work))]))
"""


def test_from_a_full_disk_the_weights_are_moved_and_a_next_attempt_finds_them(tmp_path: Path) -> None:
    mount = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        'mount -t tmpfs -o size=512k none "$1" && cd "$1" && shift && "$@"',
    ]
    mount += ["sh", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace for a disk of its own")
    done = subprocess.run(
        [*mount, sys.executable, "-c", FULL],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout == '[{}, 200000, ["best_model.pth", "last.pth"]]\n', done.stderr


def test_a_link_in_the_place_of_the_folder_is_refused(run: RunPaths, tmp_path: Path) -> None:
    run.work.symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError) as refused:
        WorkFolder(run.folder, math.inf)
    assert refused.value.errno == errno.ENOTDIR


def test_usage_counts_blocks_and_files_at_any_depth(run: RunPaths) -> None:
    work = WorkFolder(run.folder, math.inf)
    (run.work / "a/b").mkdir(parents=True)
    (run.work / "a/b/file").write_bytes(bytes(100_000))
    (run.work / "link").symlink_to("/usr")
    usage = work.usage()
    assert usage.files == 4
    assert 100_000 <= usage.bytes < 130_000
    (run.work / "a").chmod(0o300)
    assert work.usage().bytes > 100_000
    assert stat.S_IMODE((run.work / "a").stat().st_mode) == 0o700
    deep = run.work
    for _ in range(70):
        deep /= "d"
    deep.mkdir(parents=True)
    assert work.usage().files > 100_000
