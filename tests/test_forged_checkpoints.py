"""Checkpoints from strangers and bad disks: predict, score and resume refuse, and nothing is executed."""

from __future__ import annotations

import json
import os
import pickle
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


FORGERIES = (
    pickle_bomb,
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
    for forge in FORGERIES:
        weights.write_bytes(whole)
        forge(weights, workspace / "canary")
        code, complaint = use(program, workspace, capsys)
        assert code == 2, (forge.__name__, complaint)
        assert complaint.startswith("error: ") and complaint.count("\n") == 1, forge.__name__
        assert "best_model.pth" in complaint, forge.__name__
        assert not (workspace / "canary").exists(), forge.__name__
    record_property("measured", f"{len(FORGERIES)} forged checkpoints refused by {program}")


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
