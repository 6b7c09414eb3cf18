"""Saved networks of PytorchTrainer: back in memory by class and by instance, and no code from a file."""

import contextlib
import importlib.util
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from python_server import run_python
from torch import nn

from nas_system.errors import ConfigError, StateError
from nas_system.toolkit.checkpoint_store import find_builder
from nas_system.toolkit.pytorch_trainer import MixedCriterion, PytorchTrainer
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint

PROJECT_ROOT = Path(__file__).resolve().parents[2]
X = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
DATASET = list(zip(X, torch.stack([100 + 9 * X[:, 0], (X[:, 1] > 0).float()], dim=1), strict=True))


def build(width=4, *, depth=1):
    layers = [nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width)) for _ in range(depth)]
    return nn.Sequential(nn.Linear(2, width), *layers, nn.Linear(width, 2))


class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        # A tuple must come back as a tuple.
        self.layer = nn.Linear(*{(2, 2): (2, 2)}[shape])

    def forward(self, x):
        return self.layer(x)

    @staticmethod
    def build():
        return nn.Linear(2, 2)


class NotANetwork:
    pass


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with contextlib.chdir(tmp_path):
        yield tmp_path


def trained(builder=build, arguments=(), name="net", **settings):
    trainer = PytorchTrainer(builder, arguments, device="cpu")
    trainer.train(DATASET, name, n_epochs=2, verbose=False, **settings)
    return trainer


def test_class_and_instance_load_the_same_network_with_its_criterion():
    trainer = trained(arguments=[8])
    fresh = PytorchTrainer(build, [8], device="cpu")
    built_first = fresh.net
    assert fresh.load("net") is fresh
    assert fresh.net is not built_first
    trainer.load("net")
    by_class = PytorchTrainer.load("net", device="cpu")
    assert isinstance(by_class, PytorchTrainer) and by_class is not trainer
    for loaded in (fresh, by_class):
        assert torch.equal(loaded.predict(X), trainer.predict(X))
    assert by_class.predict(X)[:, 0].mean() > 50, "in the target's units"
    # One item at a time, which batch statistics would not survive: predicting means evaluation mode.
    one_by_one = by_class.predict_dataset(DATASET, verbose=False)
    torch.testing.assert_close(PytorchTrainer.load("net", "cpu").predict(X), one_by_one)
    assert by_class.net_build_args == [8]


def test_a_loaded_network_can_be_trained_on():
    trained()
    trainer = PytorchTrainer.load("net", "cpu")
    trainer.train(DATASET, "again", n_epochs=1, verbose=False)
    assert PytorchTrainer.load("again", "cpu").predict(X).shape == (30, 2)


def test_names_may_have_folders_and_dots(folder):
    trained(name="out/v1.2", n_best_nets=2)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["v1.2.pt", "v1.2_avg.pt"]
    PytorchTrainer.load("out/v1.2_avg", "cpu")
    trained(name=str(folder / "elsewhere" / "net"))
    assert (folder / "elsewhere" / "net.pt").exists()


def test_a_network_class_and_arguments_with_tuples_come_back():
    trainer = trained(Net, [(2, 2)])
    trainer.load("net")
    assert torch.equal(PytorchTrainer.load("net", "cpu").predict(X), trainer.predict(X))
    trained(nn.Linear, [2, 2])
    assert isinstance(PytorchTrainer.load("net", "cpu").net, nn.Linear)


def test_another_process_loads_by_the_name_once_the_module_is_imported(folder):
    (folder / "my_networks.py").write_text(
        "from torch import nn\ndef make(width):\n    return nn.Linear(2, width)\n"
    )
    spec = importlib.util.spec_from_file_location("my_networks", folder / "my_networks.py")
    module = sys.modules["my_networks"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        expected = trained(module.make, [2]).load("net").predict(torch.ones(1, 2))
    finally:
        del sys.modules["my_networks"]
    code = (
        "import sys, torch\n"
        "from nas_system.errors import StateError\n"
        "from nas_system.toolkit.pytorch_trainer import PytorchTrainer\n"
        "try:\n    PytorchTrainer.load('net', 'cpu')\n"
        "except StateError as error:\n    print('import my_networks first' in str(error))\n"
        "print('my_networks' in sys.modules)\n"
        "import my_networks\n"
        "trainer = PytorchTrainer.load('net', 'cpu')\n"
        "print(trainer.predict(torch.ones(1, 2)).tolist())\n"
        "trainer.train([(torch.ones(2), torch.ones(2)), (torch.ones(2), torch.zeros(2))] * 4,\n"
        "              n_epochs=1, verbose=False)\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    environment = {"PYTHONPATH": f"{PROJECT_ROOT}:{folder}", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = run_python(["-c", code], cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "False", str(expected.tolist()), "False"]


def test_a_builder_without_a_name_is_loaded_by_an_instance_only():
    for builder, arguments, reason in [
        (lambda: nn.Linear(2, 2), [], "a lambda, a closure"),
        (Net.build, [], "a lambda, a closure"),
        (build, [torch.tensor(4)], "arguments are no plain values"),
    ]:
        trainer = trained(builder, arguments)
        with pytest.raises(StateError, match=rf"{reason}.*PytorchTrainer\(net_builder, net_build_args"):
            PytorchTrainer.load("net", "cpu")
        again = PytorchTrainer(builder, arguments, device="cpu").load("net")
        trainer.load("net")
        assert torch.equal(again.predict(X), trainer.predict(X))


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "posix:system",
        "subprocess:getoutput",
        "subprocess:Popen",
        "builtins:exec",
        "shutil:rmtree",
        "torch:load",
        "torch.hub:load",
        "torch.jit._script:RecursiveScriptModule",
        "torch.serialization:load",
        "nas_system.files:fsync_folder",
        "nas_system.toolkit.pytorch_trainer:PytorchTrainer",
        f"{__name__}:deepcopy",  # imported here, at home elsewhere
        f"{__name__}:NotANetwork",
        f"{__name__}:X",
        f"{__name__}:build.__globals__",
        f"{__name__}:build.__code__.replace",
        f"{__name__}:Net.__init__.__globals__",
        f"{__name__}:gone",
        f"{__name__}:",
        "",
        "no_such_module:build",
    ],
)
def test_a_file_cannot_name_what_is_not_a_builder_of_the_program(name):
    with pytest.raises(StateError, match="its builder"):
        find_builder(name)
    assert deepcopy is not None


def test_a_file_that_names_a_shell_command_is_refused_and_nothing_runs(folder):
    trained()
    content = load_checkpoint(folder / "net.pt")
    canary = folder / "canary"
    for builder in ("os:system", "subprocess:getoutput"):
        evil = content | {"net_builder": builder, "net_build_args": [f"touch {canary}"]}
        save_checkpoint(folder / "evil.pt", evil)
        with pytest.raises(StateError, match=r"evil.pt: its builder .* (refused|does not exist)"):
            PytorchTrainer.load("evil", "cpu")
    assert not canary.exists()
    # An instance calls its own builder, whatever the file says.
    PytorchTrainer(build, [], device="cpu").load("evil")


def test_a_pickled_network_and_other_files_are_refused(folder):
    torch.save(build(), folder / "whole.pt")
    save_checkpoint(folder / "other.pt", {"model": {}})
    trained(arguments=[8])
    trainer = PytorchTrainer(build, [4], device="cpu")
    for name, message in [
        ("whole", "holds more than tensors"),
        ("other", "not saved by PytorchTrainer"),
        ("missing", "there is no checkpoint here"),
        ("net", "does not fit the network that net_builder returns"),
    ]:
        with pytest.raises(StateError, match=f"{name}.pt: .*{message}"):
            trainer.load(name)


class OwnCriterion:
    def __init__(self, dataset):
        pass

    def __call__(self, output, target, weights=None, unscaled=False):
        return (output - target).square().mean()

    def postproc(self, pred):
        return pred + 1000


def test_a_criterion_of_ones_own_stays_or_has_to_be_given():
    trainer = trained(criterion=OwnCriterion)
    trainer.load("net")
    expected = trainer.predict(X)
    assert expected.min() > 500
    by_class = PytorchTrainer.load("net", "cpu")
    with pytest.raises(ConfigError, match=r"set trainer\.criterion"):
        by_class.predict(X)
    by_class.criterion = OwnCriterion(None)
    assert torch.equal(by_class.predict(X), expected)
    # What was loaded decides, not what was trained last.
    trained(name="standard")
    trainer.load("standard")
    assert isinstance(trainer.criterion, MixedCriterion)
    trainer.load("net")
    with pytest.raises(ConfigError, match=r"set trainer\.criterion"):
        trainer.predict(X)
