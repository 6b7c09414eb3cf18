"""zoo, train, eval and sample as people start them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas_system.netformer.__main__ import COMMANDS, main
from nas_system.netformer.weights.network import Network, Neuron

Cli = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = "nas_system.netformer"
ZOO = ("--networks", "60", "--tasks", "12", "--steps", "20", "--rows", "30")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, run_cli: Cli) -> Path:
    """A folder with a zoo and a model that was trained for a moment."""
    folder = tmp_path_factory.mktemp("workshop")
    made = run_cli(PROGRAM, "zoo", "--out", "zoo", *ZOO, "--no-meta-features", cwd=folder)
    assert made.returncode == 0, made.stderr
    trained = run_cli(PROGRAM, "train", "--zoo", "zoo", "--out", "models/a.pt", "--epochs", "2", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    assert "epoch 2/2: loss=" in trained.stderr
    assert json.loads(trained.stdout)["part"] == "val"
    return folder


def test_the_chain_from_zoo_to_samples(workshop: Path, run_cli: Cli) -> None:
    evaluated = run_cli(PROGRAM, "eval", "--model", "models/a.pt", "--zoo", "zoo", cwd=workshop)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads(evaluated.stdout)
    assert metrics["part"] == "test"
    assert metrics["networks"] == 5
    assert {"exact_structure", "edge_accuracy", "weight_r2", "cosine_distance", "function_correlation"} < set(
        metrics
    )

    sampled = run_cli(PROGRAM, "sample", "--model", "models/a.pt", "--count", "3", cwd=workshop)
    assert sampled.returncode == 0, sampled.stderr
    rows = [json.loads(line) for line in sampled.stdout.splitlines()]
    networks = [
        Network(
            row["inputs"],
            tuple(Neuron(n["type"], tuple(n["parents"]), tuple(n["weights"])) for n in row["neurons"]),
        )
        for row in rows
    ]
    assert len(networks) == 3
    assert [path.name for path in (workshop / "models").iterdir()] == ["a.pt"]


def test_the_same_seed_gives_the_same_files(workshop: Path, run_cli: Cli) -> None:
    again = run_cli(PROGRAM, "zoo", "--out", "again", *ZOO, "--no-meta-features", cwd=workshop)
    assert again.returncode == 0
    other = ["zoo", "--out", str(workshop / "other"), *ZOO, "--no-meta-features", "--seed", "1"]
    assert main(other) == 0
    first, second, third = (
        (workshop / name / "index.json").read_bytes() for name in ("zoo", "again", "other")
    )
    assert first == second != third

    retrained = run_cli(
        PROGRAM, "train", "--zoo", "again", "--out", "b.pt", "--epochs", "2", "--quiet", cwd=workshop
    )
    assert retrained.returncode == 0
    assert retrained.stderr == ""
    # Settings, weights and all.
    assert (workshop / "b.pt").read_bytes() == (workshop / "models/a.pt").read_bytes()

    model = str(workshop / "b.pt")
    for name, seed in (("s.json", "0"), ("t.json", "0"), ("u.json", "1")):
        assert main(["sample", "--model", model, "--seed", seed, "--out", str(workshop / name)]) == 0
    samples = [(workshop / name).read_bytes() for name in ("s.json", "t.json", "u.json")]
    assert samples[0] == samples[1] != samples[2]


def test_another_seed_gives_another_model(workshop: Path) -> None:
    paths = [workshop / "seed0.pt", workshop / "seed1.pt"]
    for seed, path in enumerate(paths):
        flags = ["--epochs", "2", "--quiet", "--seed", str(seed)]
        assert main(["train", "--zoo", str(workshop / "zoo"), "--out", str(path), *flags]) == 0
    weights = [torch.load(path, weights_only=True)["model"]["structure_head.weight"] for path in paths]
    assert not torch.equal(*weights)


def test_a_zoo_with_meta_features_trains_a_model_that_needs_them(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pymfe", reason="needs the extra netformer")
    described, plain, model = workshop / "described", workshop / "zoo", workshop / "d.pt"
    assert main(["zoo", "--out", str(described), *ZOO]) == 0
    assert torch.load(described / "networks.pt", weights_only=True)["meta"].shape == (12, 37)
    assert main(["train", "--zoo", str(described), "--out", str(model), "--epochs", "2", "--quiet"]) == 0
    assert main(["eval", "--model", str(model), "--zoo", str(described)]) == 0
    assert main(["eval", "--model", str(model), "--zoo", str(plain)]) == 2
    assert capsys.readouterr().err == (
        "error: the model was trained on another kind of zoo; this one has no meta-features\n"
    )


BAD_INPUT = (
    ("zoo", "--out"),
    ("zoo --out x --networks 3", "networks=3: must be from 10 to 100000"),
    ("zoo --out x --networks many", "invalid int value: 'many'"),
    ("zoo --out x --activations tanh,step", "name each once, from linear, tanh"),
    (
        "zoo --out {0}/zoo/index.json/x --networks 60 --tasks 12 --steps 0 --no-meta-features",
        "cannot be made a folder",
    ),
    ("train --zoo {0}/nowhere --out {0}/m.pt", "there is no zoo here; make one"),
    ("train --zoo {0}/zoo --out {0}/zoo", "zoo is a folder; name a file"),
    ("train --zoo {0}/zoo --out {0}/zoo/index.json/m.pt", "cannot be made a folder"),
    ("train --zoo {0}/zoo --out {0}/m.pt --d-model 30", "d_model=30 is no multiple of heads=4"),
    ("train --zoo {0}/zoo --out {0}/m.pt --epochs 0", "epochs=0: must be from 1"),
    ("train --zoo {0}/zoo --out {0}/m.pt --outputs-loss -1", "outputs=-1.0: must be from 0"),
    ("eval --model {0}/nothing.pt --zoo {0}/zoo", "nothing.pt: there is no checkpoint here"),
    ("eval --model {0}/zoo/networks.pt --zoo {0}/zoo", "no model of `netformer train`"),
    ("eval --model {0}/zoo/index.json --zoo {0}/zoo", "not a readable checkpoint"),
    ("eval --model {0}/models/a.pt --zoo {0}/zoo --part all", "invalid choice: 'all'"),
    ("sample --model {0}/models/a.pt --count 0", "count=0: must be from 1"),
    ("sample --model {0}/models/a.pt --seed -1", "seed=-1: must not be negative"),
    ("dance", "there is no command 'dance'; choose from: zoo, train, eval, sample, archive, fit, propose"),
)


@pytest.mark.parametrize(("command", "complaint"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_two(
    command: str, complaint: str, workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(command.format(workshop).split())
    except SystemExit as end:  # argparse's own way
        code = end.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert complaint in printed.err


def test_a_process_ends_with_that_code(workshop: Path, run_cli: Cli) -> None:
    done = run_cli(PROGRAM, "train", "--zoo", "zoo", "--out", "m.pt", "--epochs", "0", cwd=workshop)
    assert done.returncode == 2
    assert done.stdout == "" and "epochs=0: must be from 1" in done.stderr


def test_a_model_refuses_larger_networks(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = ["--no-meta-features", "--max-width", "6", "--inputs", "3"]
    assert main(["zoo", "--out", str(workshop / "large"), *ZOO, *large]) == 0
    assert main(["eval", "--model", str(workshop / "models/a.pt"), "--zoo", str(workshop / "large")]) == 2
    assert "this one has 3 inputs instead of 2, larger networks" in capsys.readouterr().err


def test_code_in_a_model_file_is_not_run(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"schema_version": 1, "kind": Trap(str(workshop / "sprung"))}, workshop / "trap.pt")
    assert main(["sample", "--model", str(workshop / "trap.pt")]) == 2
    assert "refused, it holds more than tensors and plain values" in capsys.readouterr().err
    assert not (workshop / "sprung").exists()


class Trap:
    """Opens a file for writing when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return open, (self.path, "w")


HELP = """
import runpy, sys
sys.argv = ["netformer", *{arguments}]
try:
    runpy.run_module("nas_system.netformer", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {{"torch", "numpy", "pydantic", "pymfe", "sklearn", "langgraph", "openai", "pandas", "matplotlib"}}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(arguments=arguments)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m nas_system.netformer")
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_flag_says_its_default(run_cli: Cli, tmp_path: Path) -> None:
    shown = run_cli(PROGRAM, "zoo", "--help", cwd=tmp_path).stdout
    assert "how many networks, 10 to 100000 (default: 2000)" in " ".join(shown.split())
    assert "(default: linear,tanh,relu,sigmoid)" in " ".join(shown.split())
