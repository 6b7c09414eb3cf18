"""PytorchTrainer: make a data set, name a function that builds a network, press the button.

    model = PytorchTrainer(net_builder, [], device="cuda")
    model.train(dataset, name="model_name", batch_size=16, n_epochs=10)
    model.load("model_name")
    model.predict_dataset(dataset)

A facade: criteria, split, restarts and averaging are its own, the training is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError, Diverged, StateError
from nas_system.toolkit.checkpoint_store import builder_record, network_path, read_network, recorded_builder
from nas_system.toolkit.criteria import (
    Criterion,
    CriterionObjective,
    build_criterion,
    criterion_record,
    restore_criterion,
)
from nas_system.toolkit.diagnosis import explained
from nas_system.toolkit.lookahead import RAdamLookahead
from nas_system.toolkit.mixed_criterion import MixedCriterion, class_check
from nas_system.toolkit.pytorch_callbacks import (
    BestAverage,
    EpochHook,
    EpochLog,
    GoldenSectionRate,
    early_stopping_limit,
    restart_limit,
)
from nas_system.toolkit.pytorch_datasets import LoggedLoader, build_loader, refuses_one_item, split_indices
from nas_system.toolkit.watched_loader import WatchedLoader
from nas_system.training.acceleration.eager import skip_compiler_import
from nas_system.training.callbacks import BestCheckpoint, StopFile
from nas_system.training.checkpoint import StateDict
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Callback, Engine, EpochRecord
from nas_system.training.loops import evaluate, predict
from nas_system.training.reproducibility import resolve_device, set_seed

__all__ = ["MixedCriterion", "PytorchTrainer", "set_seed"]

# Half a percent below the recorded minimum is progress. `EarlyStoppingState` asks for more than its gain, and
# exactly half a percent shall do: hence a hair less.
PROGRESS_GAIN = 0.005 * (1 - 1e-9)


class _Load:
    """`PytorchTrainer.load(...)` makes a trainer, `trainer.load(...)` fills the one it is called on."""

    def __get__(
        self, trainer: PytorchTrainer | None, owner: type[PytorchTrainer]
    ) -> Callable[..., PytorchTrainer]:
        return owner._load_new if trainer is None else trainer._load_here


class PytorchTrainer:
    """Trains the networks that `net_builder(*net_build_args)` returns, saves, loads and applies them.

    Only weights are saved, so whoever loads builds the network again: by the same function.
    A second `train` goes on with the network in memory.
    """

    load = _Load()

    def __init__(
        self,
        net_builder: Callable[..., nn.Module],
        net_build_args: Sequence[Any],
        device: str | torch.device | None = "cuda",
    ) -> None:
        """`device`: auto (or None), cpu, cuda:N or gpu.

        Raises ConfigError for one that is not there, or a builder that returns no network.
        """
        if isinstance(net_builder, nn.Module):
            raise ConfigError("net_builder is a network; pass a function that returns it: lambda: net")
        self.net_builder = net_builder
        self.net_build_args = list(net_build_args)
        self.device = resolve_device(device)
        self.net = self._build_net()
        self.criterion: Criterion | None = None
        """Of the last training or the loaded network; set it to use a custom criterion after a load."""
        self.history: list[EpochRecord] = []
        """The epochs of the running training, or of the last one."""

    def train(
        self,
        dataset: Any,
        name: str = "pytorch_model",
        batch_size: int = 16,
        criterion: Any = "auto",
        n_epochs: int = 50,
        train_prop: float = 0.9,
        learning_rate: float = 1e-3,
        n_workers: int = 0,
        verbose: bool = True,
        epoch_hook: Callable[[PytorchTrainer], Any] | None = None,
        repeat_train: int = 1,
        repeat_valid: int = 1,
        n_best_nets: int = 1,
        with_restarts: bool = True,
        shuffle: bool = True,
    ) -> str:
        """Train on a part of `dataset`, evaluate on the rest; return why it ended.

        `name.pt` holds the network of the lowest validation loss and, with `n_best_nets` > 1,
        `name_avg.pt` the mean of the best ones, which then is the network in memory; without it the
        last one is. A file `stop_<name>` in the working directory ends the training after the current
        epoch (of a name with folders the last part counts).

        Reasons: "completed", "early_stopping", "stop_file". Raises ConfigError for arguments and data
        sets that cannot work, and Diverged when a loss is NaN or infinite; the best network so far
        (with `n_best_nets` > 1 also the mean) is on disk and in memory then.
        """
        _check_whole(batch_size=batch_size, n_epochs=n_epochs, n_best_nets=n_best_nets)
        _check_whole(repeat_train=repeat_train, repeat_valid=repeat_valid)
        if not learning_rate > 0:
            raise ConfigError(f"learning_rate={learning_rate}: must be above 0")
        path, stop_path = network_path(name), Path.cwd() / f"stop_{Path(name).name}"
        average_path = network_path(f"{name}_avg") if n_best_nets > 1 else None
        log = _print_now if verbose else _log_nothing
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ConfigError(
                f"the dataset ({type(dataset).__name__}) has no length or no items by number, so it cannot "
                "be split; give it __len__ and __getitem__, or make a list of its items"
            )

        training, validation = split_indices(len(dataset), train_prop, shuffle)
        load = partial(build_loader, dataset, batch_size=batch_size, device=self.device, n_workers=n_workers)
        merges = self._merges_last(dataset, training * repeat_train, batch_size)
        train_loader = load(training * repeat_train, shuffle=True, merges_last=merges)
        valid_loader = load(validation * repeat_valid)
        self.criterion = build_criterion(criterion, dataset)
        check = class_check(self.criterion, dataset)
        train, valid = (
            WatchedLoader(LoggedLoader(loader, part, log, check=check), part)
            for loader, part in ((train_loader, "training"), (valid_loader, "validation"))
        )
        engine = self._build_engine(learning_rate, n_epochs)
        self.history = engine.history

        record = builder_record(self.net_builder, self.net_build_args)
        record |= {"criterion": criterion_record(self.criterion)}
        path.parent.mkdir(parents=True, exist_ok=True)
        restart_after = restart_limit(n_epochs) if with_restarts else None
        callbacks: list[Callback] = [
            BestCheckpoint(path, record),
            *([BestAverage(average_path, n_best_nets, record)] if average_path else []),
            EpochLog(n_epochs, log),
            GoldenSectionRate(learning_rate, restart_after, log),
            *([EpochHook(partial(epoch_hook, self))] if epoch_hook else []),
            StopFile(stop_path),
        ]
        log(f"training {name}: {len(training)} items, {len(validation)} for validation, on {self.device}")
        try:
            with explained(engine, (train, valid), f"lower learning_rate ({learning_rate:g})"):
                reason = engine.fit(train, valid, n_epochs, callbacks)
        except Diverged as error:
            kept = self._after_divergence(engine, path, average_path)
            raise Diverged(f"{error}. {kept}", error.numbers) from error
        log(f"ended: {reason}; minimum {engine.progress.best:.6g} in {path}")
        if average_path and verbose:
            metrics = evaluate(self.net, valid, engine.objective, self.device)
            log(f"the averaged network has {metrics['loss']:.6g}, in {average_path}")
        return reason

    def predict_dataset(self, dataset: Any, batch_size: int = 1, verbose: bool = True) -> Tensor:
        """Return the answers for every item, in order: (items, ...), post-processed, on the CPU.

        Items are those of training; their targets are not used.
        """
        _check_whole(batch_size=batch_size)
        if len(dataset) == 0:
            raise ConfigError("the dataset is empty: there is nothing to predict")
        objective = CriterionObjective(self._known_criterion())
        log = _print_now if verbose else _log_nothing
        loader = build_loader(dataset, range(len(dataset)), batch_size=batch_size, device=self.device)
        log(f"predicting {len(dataset)} items on {self.device}")
        return predict(self.net, LoggedLoader(loader, "predicting", log), objective, self.device)

    @torch.no_grad()
    def predict(self, *data: Any) -> Tensor:
        """Return the post-processed answer, on the CPU, to tensors or arrays as the network takes them."""
        criterion = self._known_criterion()
        if len(data) == 1 and isinstance(data[0], list | tuple):
            data = tuple(data[0])
        self.net.eval()
        output = self.net(*(torch.as_tensor(part).to(self.device) for part in data))
        return criterion.postproc(output).float().cpu()

    @classmethod
    def _load_new(cls, name: str, device: str | torch.device = "cuda") -> PytorchTrainer:
        """Return a trainer with the network in `name.pt`, built by the function that the file names.

        Nothing is imported and no code is taken from the file: the function must be one of your own
        program, in a module that is imported already (`checkpoint_store.find_builder`). For a lambda,
        a closure, a function of an installed package, or a file that you do not trust, build the
        trainer yourself: `PytorchTrainer(net_builder, net_build_args, device).load(name)`.
        Raises StateError when that is needed, or when the file cannot be used.
        """
        path = network_path(name)
        content = read_network(path, resolve_device(device))
        try:
            builder, arguments = recorded_builder(content)
        except StateError as error:
            raise StateError(
                f"{path}: {error}. Or use PytorchTrainer(net_builder, net_build_args, device).load(name)"
            ) from None
        return cls(builder, arguments, device)._fill(path, content)

    def _load_here(self, name: str, device: str | torch.device | None = None) -> PytorchTrainer:
        """Replace the network by the one in `name.pt`, on `device` or where the trainer is; return self.

        The network is built by this trainer's own function. Raises StateError when it does not fit.
        """
        path = network_path(name)
        place = self.device if device is None else resolve_device(device)
        content = read_network(path, place)
        self.device = place
        self.net = self._build_net()
        return self._fill(path, content)

    def _fill(self, path: Path, content: StateDict) -> PytorchTrainer:
        try:
            self.net.load_state_dict(content["model"])
        except RuntimeError as error:
            raise StateError(f"{path}: does not fit the network that net_builder returns: {error}") from None
        self.criterion = restore_criterion(content["criterion"], self.criterion)
        return self

    def _build_net(self) -> nn.Module:
        net = self.net_builder(*self.net_build_args)
        if not isinstance(net, nn.Module):
            raise ConfigError(f"net_builder returned {type(net).__name__}, not a torch.nn.Module")
        return net.to(self.device)

    def _build_engine(self, learning_rate: float, n_epochs: int) -> Engine:
        skip_compiler_import()
        parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        return Engine(
            model=self.net,
            optimizer=RAdamLookahead(parameters, lr=learning_rate),
            objective=CriterionObjective(self._known_criterion()),
            device=self.device,
            progress=EarlyStoppingState(
                patience=early_stopping_limit(n_epochs), min_relative_gain=PROGRESS_GAIN
            ),
        )

    def _merges_last(self, dataset: Any, training: Sequence[int], batch_size: int) -> bool:
        """Return whether a last batch of one item has to join the one before it. Raises ConfigError."""
        if batch_size > 1 and len(training) % batch_size != 1:
            return False
        if not refuses_one_item(self.net, dataset, training[0], self.device):
            return False
        if len(training) == 1 or batch_size == 1:
            what = "there is one item to train on" if len(training) == 1 else "batch_size=1"
            raise ConfigError(
                f"{what}, and the network's batch normalization needs two in a batch to compute a variance; "
                "bring more, or use nn.LayerNorm or nn.GroupNorm"
            )
        return True

    def _after_divergence(self, engine: Engine, path: Path, average_path: Path | None) -> str:
        """Restore a usable network in memory; return what the user has of it."""
        if engine.progress.best_epoch is None:
            return "No epoch was good, nothing was saved"
        if average_path is None:
            self._fill(path, read_network(path, self.device))
        average = f", and the average in {average_path}" if average_path else ""
        return f"The best epoch before it (loss {engine.progress.best:.6g}) is kept in {path}{average}"

    def _known_criterion(self) -> Criterion:
        if self.criterion is None:
            raise ConfigError(
                "how to read the network's output is not known: train or load first, and after loading a "
                "network that was trained with a criterion of your own, set trainer.criterion"
            )
        if isinstance(self.criterion, nn.Module):
            self.criterion.to(self.device)
        return self.criterion


def _check_whole(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value}: must be at least 1")


def _print_now(line: str) -> None:
    print(line, flush=True)


def _log_nothing(line: str) -> None:
    pass
