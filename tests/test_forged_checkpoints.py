"""Checkpoints from strangers and bad disks: predict, score and resume refuse, and nothing is executed."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chaos.series import TASK, write_series

from nas_system import predict, score

RunCli = Callable[..., Any]
EPOCHS = ("--max-epochs", "60")
MOST_KIB = 200 * 1024
"""By which the memory of this process may grow for checkpoints of a few kilobytes."""


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.canary),)


def pickle_bomb(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps({"schema_version": 1, "model": Bomb(canary)}))


def bomb_in_a_checkpoint(path: Path, canary: Path) -> None:
    torch.save({"schema_version": 1, "model": Bomb(canary)}, path)


def web_page(path: Path, canary: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")


def truncated(path: Path, canary: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, canary: Path) -> None:
    path.write_bytes(b"")


def wrong_keys(path: Path, canary: Path) -> None:
    torch.save({"schema_version": 1, "weights": {"w": torch.zeros(3)}}, path)


def a_tensor(path: Path, canary: Path) -> None:
    torch.save(torch.zeros(3), path)


def zip_bomb(path: Path, canary: Path) -> None:
    """64 MiB of zeros in 64 KiB, where the pickle of a checkpoint stands."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/version", "3\n")
        with archive.open("archive/data.pkl", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(2**20))


def with_pickle(path: Path, pickled: bytes, *more: str) -> None:
    """Put another pickle into the archive, and members called `more`."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else content)
        for name in more:
            archive.writestr(name, b"")


def a_dictionary(*pickled: bytes) -> bytes:
    """`{"schema_version": 1}`, with a key and a value for each pair of the pickles."""
    version = b"X\x0e\x00\x00\x00schema_versionK\x01s"
    pairs = (key + value + b"s" for key, value in zip(pickled[::2], pickled[1::2], strict=True))
    return b"\x80\x02}" + version + b"".join(pairs) + b"."


KEY = b"X\x01\x00\x00\x00a"


def terabyte_of_zeros(path: Path, canary: Path) -> None:
    with_pickle(path, a_dictionary(KEY, b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R"))


def tensor_of_a_terabyte(path: Path, canary: Path) -> None:
    with_pickle(path, a_dictionary(KEY, b"ctorch\nTensor\n\x8a\x06\x00\x00\x00\x00\x40\x00\x85R"))


def tuple_of_many_levels(path: Path, canary: Path) -> None:
    """Whoever takes its hash overflows the stack."""
    with_pickle(path, a_dictionary(b")" + b"\x85" * 300_000, b"N"))


def a_million_of_the_same(path: Path, canary: Path) -> None:
    """Lists of ten times the same list, nine levels deep: a gigabyte as JSON, and two hundred bytes here."""
    levels = b"".join(b"](" + b"h\x01" * 10 + b"eq\x01" for _ in range(9))
    with_pickle(path, a_dictionary(b"X\x06\x00\x00\x00config", b"](]q\x01" + levels + b"e"))


def two_pickles(path: Path, canary: Path) -> None:
    """The reader that checks and the reader that loads might take different ones."""
    whole = pickle.dumps({"schema_version": 1}, protocol=2)
    with_pickle(path, whole, "ARCHIVE/DATA.PKL", "best_model/DATA.PKL")


def many_members(path: Path, canary: Path) -> None:
    with_pickle(path, a_dictionary(), *(f"archive/data/{number}" for number in range(100, 20_000)))


def a_fifo(path: Path, canary: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path, canary: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_a_device(path: Path, canary: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def a_sparse_file(path: Path, canary: Path) -> None:
    """A terabyte that takes no space on the disk."""
    os.truncate(path, 10**12)


FORGERIES = (
    pickle_bomb,
    terabyte_of_zeros,
    tensor_of_a_terabyte,
    tuple_of_many_levels,
    a_million_of_the_same,
    two_pickles,
    many_members,
    a_fifo,
    a_folder,
    a_link_to_a_device,
    a_sparse_file,
    bomb_in_a_checkpoint,
    web_page,
    truncated,
    empty,
    wrong_keys,
    a_tensor,
    zip_bomb,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> Path:
    """A workspace with a finished run."""
    workspace = tmp_path_factory.mktemp("trained")
    write_series(workspace)
    flags = (*TASK, "--split", "0.6,0.15,0.15", "--proposer", "random_search", "--device", "cpu")
    (workspace / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 2}\n"
    )
    own = ("--base-config", "base.yaml", "--max-runs", "1", "--repeat-baseline", "0")
    done = run_cli("nas_agent_graph.run", *flags, *own, cwd=workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workspace / "runs/run_0000/best_model.pth").exists()
    [verified] = json.loads((workspace / "runs/run_0000/verdict.json").read_bytes())["verified"]
    assert verified["problem"] is None
    assert verified["val_score"] == pytest.approx(verified["reported"], rel=1e-5)
    return workspace


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "workspace"))


def use(program: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The program's exit code and complaint; in this process, or importing torch would be all one sees."""
    run, facts = workspace / "runs/run_0000", workspace / "runs/task_facts.json"
    main = {"predict": predict.main, "score": score.main}[program]
    code = main(["--run", str(run), "--facts", str(facts)])
    return code, capsys.readouterr().err


def forget_checksum(workspace: Path) -> None:
    """As in a folder of which only the weights and the configuration came along."""
    path = workspace / "runs/run_0000/metrics.json"
    metrics = json.loads(path.read_bytes())
    del metrics["checkpoint_sha256"]
    path.write_text(json.dumps(metrics))


@pytest.mark.fault(40)
@pytest.mark.parametrize("program", ["predict", "score"])
def test_forged_weights_are_refused_with_a_reason(
    program: str,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    """Also without a checksum: nothing but tensors and plain values is ever unpacked."""
    forget_checksum(workspace)
    weights = workspace / "runs/run_0000/best_model.pth"
    whole = weights.read_bytes()
    assert use(program, workspace, capsys)[0] == 0, "the weights are good before they are forged"
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for forge in FORGERIES:
        remove(weights)
        weights.write_bytes(whole)
        forge(weights, workspace / "canary")
        code, complaint = use(program, workspace, capsys)
        assert code == 2, (forge.__name__, complaint)
        assert complaint.startswith("error: ") and complaint.count("\n") == 1, forge.__name__
        assert "best_model.pth" in complaint, forge.__name__
        assert not (workspace / "canary").exists(), forge.__name__
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < MOST_KIB, forge.__name__
    record_property("measured", f"{len(FORGERIES)} forged checkpoints refused by {program}")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**9, 2**70, 1e308, -1e-300, math.nan, math.inf, 1j),
    *("", "line\nline", "\x1b[2J", "\ud800", "9" * 5000, "123456789D"),
    *([], {}, [[[]]], {"a": {"b": {}}}, [math.nan], ["OT"] * 1000, {1: 2}, {(1, 2): 3}),
    *(torch.zeros(2), torch.zeros(1).expand(10**12)),
)
DELETED = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of everything in nested dictionaries and lists, and of these themselves."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inside for place in places(item, (*path, name)))]


def changed(content: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    parent = content
    for name in place[:-1]:
        parent = parent[name]
    if value is DELETED:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return content


@pytest.mark.fault(40)
def test_no_metadata_make_predict_fail_in_another_way_than_by_a_sentence(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every value of a good checkpoint is replaced by every hostile one, or removed."""
    forget_checksum(workspace)
    weights = workspace / "runs/run_0000/best_model.pth"
    good = torch.load(weights, weights_only=True)
    found = {place for place in places({name: good[name] for name in good if name != "model"}) if place}
    assert len(found) > 40
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for place in sorted(found, key=str):
        # Inside of what is validated as a whole a few say enough.
        values = HOSTILE if len(place) == 1 else HOSTILE[::5]
        for value in (*values, DELETED):
            torch.save(changed(good, place, value), weights)
            code, complaint = use("predict", workspace, capsys)
            assert code in (0, 2), (place, value, complaint)
            assert complaint.count("\n") == code // 2, (place, value, complaint)
            refused += code == 2
    assert refused > len(found) * 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < MOST_KIB


STRANGE_WEIGHTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "of another type": lambda weight: weight.double(),
    "complex": lambda weight: weight.to(torch.complex64),
    "sparse": lambda weight: weight.to_sparse(),
    "quantized": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    "of no numbers": lambda weight: weight.to("meta"),
    "of a terabyte": lambda weight: torch.zeros(1).expand(10**12),
    "of another shape": lambda weight: weight[None],
    "a word": lambda weight: "weight",
    "a number": lambda weight: 1.0,
    "a dictionary": lambda weight: {"weight": weight},
    "nan": lambda weight: torch.full_like(weight, math.nan),
    "inf": lambda weight: torch.full_like(weight, math.inf),
}


@pytest.mark.fault(40)
@pytest.mark.parametrize("program", ["predict", "score"])
def test_no_weights_make_a_program_fail_in_another_way_than_by_a_sentence(
    program: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_checksum(workspace)
    weights = workspace / "runs/run_0000/best_model.pth"
    good = torch.load(weights, weights_only=True)
    first = next(iter(good["model"]))
    forged = {
        name: {**good["model"], first: change(good["model"][first])}
        for name, change in STRANGE_WEIGHTS.items()
    }
    forged |= {"one more": {**good["model"], "more": torch.zeros(1)}, "numbered": {1: torch.zeros(1)}}
    for name, model in {**forged, "none": None, "a list": [torch.zeros(1)], "empty": {}}.items():
        torch.save({**good, "model": model}, weights)
        code, complaint = use(program, workspace, capsys)
        assert code == 2, name
        assert complaint.startswith("error: "), (name, complaint)
        assert complaint.count("\n") == 1, (name, complaint)


@pytest.mark.fault(41)
@pytest.mark.parametrize("program", ["predict", "score"])
def test_a_flipped_bit_is_named(program: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its SHA-256, and where that did not come along by the checksums inside the file."""
    flip_a_weight(workspace / "runs/run_0000/best_model.pth")
    code, complaint = use(program, workspace, capsys)
    assert code == 2
    assert "best_model.pth: the file's SHA-256 is not" in complaint
    forget_checksum(workspace)
    code, complaint = use(program, workspace, capsys)
    assert code == 2
    assert "its CRC-32 differs" in complaint


def flip_a_weight(path: Path) -> None:
    """In the middle of a tensor, where torch notices nothing."""
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["model"]
    largest = max(weights.values(), key=torch.numel).contiguous().numpy().tobytes()
    position = bytes(content).index(largest) + len(largest) // 2
    content[position] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)


@pytest.mark.fault(40, 41)
def test_a_training_that_resumes_runs_nothing_from_its_checkpoint(workspace: Path, run_cli: RunCli) -> None:
    """It says why and begins again, so that the run is not lost."""
    run = workspace / "runs/run_0000"
    whole = (run / "best_model.pth").read_bytes()
    expected = json.loads((run / "metrics.json").read_bytes())["val_mse"]
    arguments = ("--config", run / "config_used.py", "--runs-dir", run.parent, "--tag", run.name, "--resume")
    facts = ("--facts", workspace / "runs/task_facts.json", "--device", "cpu")
    for forge in (bomb_in_a_checkpoint, truncated, wrong_keys):
        (run / "last.pth").write_bytes(whole)
        forge(run / "last.pth", workspace / "canary")
        (run / "metrics.json").unlink()
        done = run_cli("nas_system.train", *arguments, *facts, cwd=workspace)
        assert done.returncode == 0, (forge.__name__, done.stderr)
        assert "last.pth" in done.stdout and "starts at the beginning" in done.stdout, forge.__name__
        assert not (workspace / "canary").exists(), forge.__name__
        assert json.loads((run / "metrics.json").read_bytes())["val_mse"] == expected


@pytest.mark.fault(41)
@pytest.mark.parametrize("name", [pytest.param("last.pth", marks=pytest.mark.faults_long), "best_model.pth"])
def test_a_training_does_not_go_on_from_a_flipped_bit(name: str, workspace: Path, run_cli: RunCli) -> None:
    run = workspace / "runs/run_0000"
    (run / "metrics.json").unlink()
    arguments = ("--config", run / "config_used.py", "--runs-dir", run.parent, "--tag", run.name, "--resume")
    facts = ("--facts", workspace / "runs/task_facts.json", "--device", "cpu")
    stopped = stop_after_first_epoch(workspace, arguments + facts)
    assert "stopped by SIGTERM" in stopped
    (run / "metrics.json").unlink()
    flip_a_weight(run / name)
    done = run_cli("nas_system.train", *arguments, *facts, *EPOCHS, cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert f"{name}: " in done.stdout and "was changed or damaged" in done.stdout
    assert "starts at the beginning" in done.stdout


def stop_after_first_epoch(workspace: Path, arguments: tuple[Any, ...]) -> str:
    """A training that was interrupted as by Ctrl-C, with both of its checkpoints; what it said."""
    command = [sys.executable, "-m", "nas_system.train", *map(str, arguments), *EPOCHS]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    last = workspace / "runs/run_0000/last.pth"
    process = subprocess.Popen(command, cwd=workspace, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not last.exists():
        assert process.poll() is None and time.monotonic() < deadline, "no epoch has ended"
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 5, said
    return said
