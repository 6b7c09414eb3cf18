"""A full disk: the search waits where it stands, and goes on by itself when there is space."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.search import Search, wait_for
from chaos.series import CHEAP, TASK, write_series

from nas_agent_graph.host.disk_space import FIRST_PAUSE_S, LONGEST_PAUSE_S, DiskSpace
from nas_agent_graph.host.signals import SearchInterrupted, StopRequest
from nas_system.errors import SearchPaused
from nas_system.files import append_durably, is_disk_full, write_atomic
from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.nas_agent.outcome import read_outcome
from nas_system.training.checkpoint import load_checkpoint

Record = Callable[[str, object], None]
WAITS, GOES_ON = "The search waits: free some space", "there is space again"
# Cheap trainings on a disk on which nothing may be kept free.
TIGHT = ("--proposer", "random_search", "--device", "cpu", "--repeat-baseline", "0", "--keep-free", "0")


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Writer:
    """A write that is refused until a certain time."""

    def __init__(self, clock: FakeClock, until: float, number: int = errno.ENOSPC) -> None:
        self.clock, self.until, self.number, self.tried_at = clock, until, number, list[float]()

    def __call__(self) -> str:
        self.tried_at.append(self.clock.now)
        if self.clock.now < self.until:
            raise OSError(self.number, os.strerror(self.number), "/somewhere/agent_state.json")
        return "written"


class SmallDisk:
    """A file system in memory whose size can be changed while it is in use."""

    def __init__(self, folder: Path, size_kib: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size_kib}k", "none", str(folder))

    def resize(self, size_kib: int) -> None:
        self._mount("-o", f"remount,size={size_kib}k", str(self.folder))

    def fill(self) -> Path:
        """A file that takes all that is left."""
        ballast = self.folder / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            for size in (65536, 4096):
                try:
                    while file.write(b"\1" * size) == size:
                        pass
                except OSError:
                    continue
        return ballast

    @staticmethod
    def _mount(*arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    folder = tmp_path / "disk"
    if not shutil.which("mount"):
        pytest.skip("needs mount")
    yield lambda size_kib: SmallDisk(folder, size_kib)
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def search_in(prepared: Path) -> Iterator[Callable[..., Search]]:
    """Searches in a folder of their own choice, with the data described already."""
    made: list[Search] = []

    def make(workspace: Path, *flags: str) -> Search:
        shutil.copytree(prepared, workspace)
        made.append(Search(workspace, *TIGHT, *flags, env={"PYTHONDONTWRITEBYTECODE": "1"}))
        return made[-1]

    yield make
    for search in made:
        search.clean_up()


def disk_space(clock: FakeClock, said: list[str], **options: object) -> DiskSpace:
    return DiskSpace(Path("/"), clock, StopRequest(), said.append, **options)  # type: ignore[arg-type]


@pytest.mark.fault(8)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_is_repeated_with_growing_pauses_until_there_is_space(number: int) -> None:
    clock, said = FakeClock(), list[str]()
    write = Writer(clock, until=300.0, number=number)
    assert disk_space(clock, said).retry_until_space(write) == "written"
    pauses = [later - earlier for earlier, later in zip(write.tried_at, write.tried_at[1:], strict=False)]
    assert pauses[0] == pytest.approx(FIRST_PAUSE_S)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S)
    assert pauses == sorted(pauses)
    assert len(said) == 2, "once that it waits, once that it goes on"
    assert said[0].startswith(f"/somewhere/agent_state.json: {os.strerror(number)} (")
    assert WAITS in said[0]
    assert GOES_ON in said[1]


@pytest.mark.fault(8)
def test_patience_has_the_limit_that_it_is_given() -> None:
    clock, said = FakeClock(), list[str]()
    with pytest.raises(SearchPaused, match="give the same command again") as paused:
        disk_space(clock, said, longest_wait_s=60.0).retry_until_space(Writer(clock, until=1e9))
    assert paused.value.exit_code == 4
    assert 60 <= clock.now <= 60 + LONGEST_PAUSE_S


@pytest.mark.fault(8)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EFBIG, errno.EMFILE])
def test_another_error_is_not_waited_for(number: int) -> None:
    clock = FakeClock()
    with pytest.raises(OSError, match="somewhere") as refused:
        disk_space(clock, []).retry_until_space(Writer(clock, until=1.0, number=number))
    assert (refused.value.errno, clock.now) == (number, 0)


@pytest.mark.fault(8, 29)
def test_a_stop_request_that_is_held_back_ends_the_wait_at_once() -> None:
    clock = FakeClock()
    space = disk_space(clock, [])

    def write() -> None:
        with space.stop.held_back():
            pass
        space.stop.signal = signal.SIGINT if clock.now > 5 else None
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(SearchInterrupted):
        space.retry_until_space(write)
    assert clock.now < 2 * LONGEST_PAUSE_S


@pytest.mark.fault(8)
def test_too_little_space_for_a_training_is_found_out_before_it_begins(tmp_path: Path) -> None:
    there_is_mb = shutil.disk_usage(tmp_path).free / 2**20
    said: list[str] = []
    disk_space(FakeClock(), said, least_free_mb=0.1).require(tmp_path)
    disk_space(FakeClock(), said, least_free_mb=2).prove(tmp_path)
    assert not list(tmp_path.iterdir()), "the proof leaves nothing behind"
    for ask in ("require", "prove"):
        with pytest.raises(OSError, match="MiB that a training may need") as refused:
            getattr(disk_space(FakeClock(), said, least_free_mb=2 * there_is_mb), ask)(tmp_path)
        assert is_disk_full(refused.value)


def printed_by(code: str, folder: Path, *, limit_bytes: int | None = None) -> str:
    """What `code` prints, in a process that may write no file larger than `limit_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limits = (soft if limit_bytes is None else limit_bytes, hard)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.fault(8)
@pytest.mark.parametrize("full", [False, True])
def test_a_file_for_which_there_is_no_room_stays_as_it_was_and_leaves_no_litter(
    full: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """On a full disk, and under a limit on the size of files, which is no full disk."""
    folder = request.getfixturevalue("small_disk")(128).folder if full else tmp_path
    write_atomic(folder / "state", b"old")
    append_durably(folder / "log", b"line\n")
    code = (
        "import sys, pathlib\n"
        "from nas_system.files import append_durably, is_disk_full, write_atomic\n"
        "for write, name in ((write_atomic, 'state'), (append_durably, 'log')):\n"
        "    try: write(pathlib.Path(sys.argv[1], name), b'x' * 200_000)\n"
        "    except OSError as error: print(is_disk_full(error), end=' ')\n"
    )
    printed = printed_by(code, folder, limit_bytes=None if full else 100_000)
    assert printed == f"{full} {full}"
    assert (folder / "state").read_bytes() == b"old"
    assert (folder / "log").read_bytes() == b"line\n"
    assert {path.name for path in folder.iterdir()} == {"state", "log"}


@pytest.mark.fault(9)
@pytest.mark.parametrize("full", [False, True])
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_it(
    full: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("small_disk")(128).folder if full else tmp_path
    code = (
        "import sys, pathlib, torch\n"
        "from nas_system.files import is_disk_full\n"
        "from nas_system.training.checkpoint import load_checkpoint, save_checkpoint\n"
        "path = pathlib.Path(sys.argv[1], 'best_model.pth')\n"
        "sha256 = save_checkpoint(path, {'weights': torch.ones(1000)})\n"
        "try: save_checkpoint(path, {'weights': torch.zeros(100_000)})\n"
        "except OSError as error: print(is_disk_full(error), end=' ')\n"
        "print(float(load_checkpoint(path, sha256=sha256)['weights'].sum()))\n"
    )
    printed = printed_by(code, folder, limit_bytes=None if full else 100_000)
    assert printed == f"{full} 1000.0"
    assert [path.name for path in folder.iterdir()] == ["best_model.pth"]


def drive_through_a_full_disk(disk: SmallDisk, search: Search) -> str:
    """Start, wait for the pause, make room, wait for the end. Returns what the search had said."""
    process = search.start()
    wait_for(lambda: WAITS in search.text() or process.poll() is not None, "the pause", 60)
    assert process.poll() is None, search.text()
    before = search.check()
    wait_for(lambda: not search.alive(), "the end of every training on a full disk", 5)
    disk.resize(16_384)
    assert search.wait() == 0, search.text()
    text = search.text()
    assert search.last.runs[: len(before.runs)] == before.runs
    return text


def check_whole(search: Search, runs: int, text: str) -> None:
    assert len(search.last.runs) == runs
    # A training that the full disk had ended was tried once more.
    assert {run.status for run in search.last.runs} == {"OK"}, search.last.runs
    assert text.count(WAITS) == text.count(GOES_ON) >= 1, text
    assert "Traceback" not in text


@pytest.mark.fault(8)
def test_a_search_on_a_full_disk_goes_on_when_there_is_space(
    small_disk: Callable[[int], SmallDisk], search_in: Callable[..., Search]
) -> None:
    disk = small_disk(164)
    search = search_in(disk.folder / "workspace", "--max-runs", "4")
    check_whole(search, 4, drive_through_a_full_disk(disk, search))


@pytest.mark.faults_long
@pytest.mark.timeout(1200)
@pytest.mark.fault(8)
def test_a_disk_may_fill_up_at_any_kilobyte(
    tmp_path: Path,
    small_disk: Callable[[int], SmallDisk],
    search_in: Callable[..., Search],
    record_property: Record,
) -> None:
    disk = small_disk(16_384)
    sizes = range(104, 204, 2)
    for size_kib in sizes:
        disk.resize(16_384)
        workspace = disk.folder / f"search_{size_kib}"
        search = search_in(workspace, "--max-runs", "5")
        disk.resize(size_kib)
        check_whole(search, 5, drive_through_a_full_disk(disk, search))
        shutil.rmtree(workspace)
        shutil.rmtree(search.evidence.parent)
    record_property("measured", f"{len(sizes)} disks that of another size each filled up, 0 runs lost")


@pytest.mark.fault(8)
def test_a_limit_on_the_size_of_files_pauses_the_search_and_is_called_by_its_name(
    tmp_path: Path, search_in: Callable[..., Search]
) -> None:
    """agent_state.json outgrows the limit: no waiting helps, a person has to lift it."""
    limit, search = 6000, search_in(tmp_path / "workspace", "--max-runs", "12")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        search.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert search.wait() == 4, search.text()
    text = search.text()
    assert 1 <= len(search.last.runs) < 12
    assert f"agent_state.json: {os.strerror(errno.EFBIG)}" in text
    assert "lift it (ulimit -f unlimited)" in text
    assert "give the same command again" in text
    assert (WAITS in text, "Traceback" in text) == (False, False)
    search.start()
    assert search.wait() == 0, search.text()
    assert [run.status for run in search.last.runs] == ["OK"] * 12


@pytest.mark.fault(8, 29)
def test_ctrl_c_ends_the_wait_and_the_same_command_continues(
    small_disk: Callable[[int], SmallDisk], search_in: Callable[..., Search]
) -> None:
    disk = small_disk(132)
    search = search_in(disk.folder / "workspace", "--max-runs", "3")
    process = search.start()
    wait_for(lambda: WAITS in search.text(), "the pause", 60)
    process.send_signal(signal.SIGINT)
    assert search.wait() == 130, search.text()
    assert "the same command continues" in search.text()
    disk.resize(16_384)
    search.start()
    assert search.wait() == 0, search.text()
    assert [run.status for run in search.last.runs] == ["OK"] * 3


@pytest.mark.fault(8)
def test_with_a_limit_the_search_leaves_with_exit_code_4_and_says_what_to_do(
    small_disk: Callable[[int], SmallDisk], search_in: Callable[..., Search]
) -> None:
    disk = small_disk(132)
    search = search_in(disk.folder / "workspace", "--max-runs", "3", "--wait-for-disk", "0.01")
    search.start()
    assert search.wait() == 4, search.text()
    assert "free some space, then give the same command again" in search.text()


@pytest.mark.fault(8)
def test_no_training_begins_below_the_space_that_is_to_be_kept_free(
    small_disk: Callable[[int], SmallDisk], search_in: Callable[..., Search]
) -> None:
    disk = small_disk(8_192)
    search = search_in(disk.folder / "workspace", "--max-runs", "1", "--keep-free", "10")
    process = search.start()
    wait_for(lambda: WAITS in search.text() or process.poll() is not None, "the pause", 60)
    assert "fewer than the 10 MiB that a training may need are free" in search.text()
    assert not list(search.workspace.glob("runs/run_*/proc.json"))
    disk.resize(65_536)
    assert search.wait() == 0, search.text()


@pytest.mark.fault(8, 9)
@pytest.mark.timeout(150)
def test_a_real_training_that_finds_no_space_keeps_its_best_model_and_is_tried_once_more(
    tmp_path: Path, small_disk: Callable[[int], SmallDisk]
) -> None:
    disk = small_disk(16_384)
    write_series(disk.folder)
    config = {
        "model": {"family": "linear"},
        "data": {"features": "S", "seq_len": 24, "batch_size": 1},
        "training": {"lr": 0.0001, "scheduler": "none", "max_epochs": 25, "patience": 25},
    }
    (disk.folder / "base.json").write_text(json.dumps(config))
    flags = (*TASK, *CHEAP, "--base-config", "base.json", "--repeat-baseline", "0", "--keep-free", "1")
    search = Search(disk.folder, *flags, "--max-runs", "1", stand_in=False)
    try:
        process = search.start()
        run_dir = disk.folder / "runs" / "run_0000"
        wait_for(lambda: (run_dir / "work/last.pth").exists(), "the first two checkpoints", 60)
        ballast = disk.fill()
        wait_for(lambda: WAITS in search.text() or process.poll() is not None, "the pause", 60)
        assert process.poll() is None, search.text()
        ended = json.loads((run_dir / "exit.json").read_text())
        assert (ended["attempt"], ended["returncode"]) == (1, 1)
        assert not list(run_dir.glob("*.tmp"))
        load_checkpoint(run_dir / "best_model.pth")
        assert read_outcome(run_dir).status == "DISK_FULL"
        ballast.unlink()
        assert search.wait() == 0, search.text()
        (run,) = load_agent_state(disk.folder / "agent_state.json").runs
        assert (run.status, run.attempt) == ("OK", 2)
        assert "resumed after epoch" in (run_dir / "train.log").read_text()
    finally:
        search.clean_up()
