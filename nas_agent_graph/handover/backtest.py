"""How the recipe of a search would have done at earlier dates: choose, train again, forecast, compare.

The search is not repeated: its configurations are what they are. At each date what it hands over is chosen by
rows before the date, where those allow it, trained again on the rows before it alone, and forecasts the next
horizon. The refits are trainings like any other, and stay in `runs/run_0007/backtests/row_900_seed_42`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import SearchInterrupted, SearchLauncher, StopRequest, SystemClock
from nas_agent_graph.handover.choice import Choice, Evaluator
from nas_agent_graph.handover.earlier_choice import evidence_of, windows_known_at
from nas_agent_graph.handover.refit_pool import RefitPool, Refitted
from nas_agent_graph.handover.refits import Refit, ends_of, refit_of, seconds_to_come
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.host.signals import handle_signals
from nas_agent_graph.launchers import DEFAULT, build_launcher
from nas_agent_graph.pool.slots import Slots
from nas_agent_graph.search_setup import info_at, place_of_data
from nas_agent_graph.text.backtest import backtest_lines, backtest_table
from nas_agent_graph.text.terminal import duration
from nas_system.command_line import complain
from nas_system.errors import ConfigError, NasError, StateError
from nas_system.files import read_object, write_atomic
from nas_system.nas_agent.backtest import Backtest, How, Origin, write_backtest
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.recommended import (
    Ensemble,
    Member,
    Recommended,
    Training,
    read_recommended,
)
from nas_system.nas_agent.workspace_lock import WorkspaceLock
from nas_system.processes.job import SILENCE_LIMIT_S, disk_limit_mb
from nas_system.processes.run_files import FACTS_FILE
from nas_system.space.task_info import TaskInfo

ENSEMBLE_NAME, ERRORS_NAME = "runs/backtest_ensemble.json", "backtest_errors.npy"
"""What is considered at a date when it is chosen again."""


def run_backtest(arguments: argparse.Namespace, table: Path) -> int:
    """Do what `nas predict --backtest K` asks for, print it, write the rows to `table`; return the exit code.

    Raises NasError, and OSError where there is no space.
    """
    stop = StopRequest()
    handle_signals(stop)
    workspace = arguments.workspace.expanduser().absolute()
    try:
        with WorkspaceLock(workspace):
            _run(arguments, workspace, table, stop)
    except SearchInterrupted as error:
        complain("stopped; the refits that have ended are kept, and the same command goes on")
        return error.exit_code
    return 0


def _run(arguments: argparse.Namespace, workspace: Path, table: Path, stop: StopRequest) -> None:
    ledger, _ = Ledger.open(workspace)
    recommended = read_recommended(workspace)
    info = _found_data(_read_info(workspace), ledger, arguments)
    launcher = build_launcher(DEFAULT)
    flags = () if arguments.device == "auto" else ("--device", arguments.device)
    try:
        evaluate = Evaluator(ledger, launcher, flags)
        recipe = _Recipe(ledger, info, recommended, evaluate, _note)
        plan = recipe.plan(arguments.backtest)
        refitted = _train(plan, ledger, launcher, arguments.device, stop)
        backtest = Backtest(origins=tuple(_origins(plan, refitted)))
        # The program reads what is to be evaluated from the file.
        write_backtest(ledger.runs_dir, backtest)
        backtest = backtest.model_copy(update={"evaluation": evaluate("--backtest")})
        write_backtest(ledger.runs_dir, backtest)
        write_atomic(table, backtest_table(backtest).encode())
    finally:
        launcher.close()
    print()
    for line in backtest_lines(backtest):
        print(line)
    print(f"wrote {table}")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _read_info(workspace: Path) -> TaskInfo:
    facts = workspace / "runs" / FACTS_FILE
    try:
        return TaskInfo.from_json(read_object(facts))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{facts}: not the task info of a search ({error})") from None


def _found_data(info: TaskInfo, ledger: Ledger, arguments: argparse.Namespace) -> TaskInfo:
    """Return the info with the file where it is now; the trainings read that from the file of the info."""
    if info.source.kind != "csv" or info.source.path is None:
        return info
    place = place_of_data(info.source, ledger, arguments)
    if place is None or place == info.source.path:
        return info
    return info_at(place, info, ledger, ledger.runs_dir / FACTS_FILE)


# --- what happens at which date -------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """A date: what is chosen there, and which trainings that takes."""

    row: int
    how: How
    chosen: Recommended
    refits: tuple[Refit, ...]


@dataclass(frozen=True)
class _Recipe:
    """What a search does at its end, to be done at earlier dates."""

    ledger: Ledger
    info: TaskInfo
    recommended: Recommended
    evaluate: Evaluator
    note: Callable[[str], None]

    def plan(self, dates: int) -> list[Planned]:
        """Return what is chosen at the last so many dates, a horizon apart, and what has to be trained.

        Raises ConfigError for more dates than the rows allow.
        """
        rows, steps = self.info.number("rows"), self.info.task.horizon
        ends = ends_of(self.info)
        if rows is None or not {"train", "val"} <= ends.keys():
            raise ConfigError("the task info of the search does not say how its rows are divided")
        needed = self._rows_needed(steps)
        most = max((int(rows) - needed) // steps, 0)
        if dates > most:
            raise ConfigError(
                f"--backtest {dates}: {int(rows):,} rows hold {most} dates, {steps} steps apart, with the "
                f"{needed:,} rows before them that this takes; ask for no more"
            )
        return [self._at(int(rows) - back * steps, ends) for back in range(dates, 0, -1)]

    def _rows_needed(self, steps: int) -> int:
        """Return the fewest rows that every member learns from: the windows of two horizons."""
        configs = [self.ledger.config(member.name) for member in self.recommended.members]
        looks = [config.data.seq_len for config in configs if config is not None]
        return max(looks, default=0) + 2 * steps

    def _at(self, row: int, ends: dict[str, float]) -> Planned:
        how, chosen = self._choose(row, ends)
        refits = []
        for member in chosen.members:
            again = self.recommended.refits.get("hold_out", {}).get(member.name, ())
            if member.kind == "baseline" or (how == "search" and not again):
                continue
            first = refit_of(member.name, row, ends, self.ledger)
            if first is None:
                raise StateError(f"{member.name}: its files do not say how it was trained")
            seeds = range(max(len(again), 1))
            refits += [first.with_seed(first.config.seed + number) for number in seeds]
        return Planned(row, how, chosen, tuple(refits))

    def _choose(self, row: int, ends: dict[str, float]) -> tuple[How, Recommended]:
        if row >= ends["val"]:
            return "search", self.recommended
        windows = windows_known_at(row, ends, self.info)
        if windows < self.info.task.horizon:
            return "not again", self.recommended
        evidence = evidence_of(windows, self.ledger, self.info)
        if evidence is None:
            return "not again", self.recommended
        choice = Choice(
            self.ledger, self.info, self.evaluate, self.note, file=ENSEMBLE_NAME, errors=ERRORS_NAME
        )
        chosen = choice.choose(evidence)
        return ("not again", self.recommended) if chosen is None else ("again", chosen)


# --- trained and put together ---------------------------------------------------------------


def _train(
    plan: Sequence[Planned], ledger: Ledger, launcher: SearchLauncher, device: str, stop: StopRequest
) -> Refitted:
    refits = [refit for date in plan for refit in date.refits]
    if not refits:
        _note("nothing is trained: what is recommended has no refits, so the weights of the search forecast")
        return Refitted(())
    due = [refit for refit in refits if refit.weights is None]
    kept = f", {len(refits) - len(due)} more are kept from before" if len(due) < len(refits) else ""
    print(
        f"\nbacktest: {len(due)} trainings for {len(plan)} dates{kept}; about "
        f"{duration(seconds_to_come(refits))} of compute",
        flush=True,
    )
    if due:
        launcher.check_device(device)
        if (warning := launcher.check_sandbox()) is not None:
            _note(warning)
        launcher.warm_up(ledger.runs_dir, ["nas_system.tasks.forecasting"])
    facts = ledger.runs_dir / FACTS_FILE
    command = [sys.executable, "-m", "nas_system.train", "--facts", str(facts), "--device", device]
    pool = RefitPool(
        ledger=ledger,
        launcher=launcher,
        limits=Limits(
            max_runs=1,
            silence_seconds=SILENCE_LIMIT_S,
            memory_mb=launcher.memory_limit_mb(),
            disk_mb=disk_limit_mb(shutil.disk_usage(ledger.workspace).free / 2**20),
        ),
        slots=Slots(),
        train_command=(*command, "--pictures", "none"),
        data=_read_info(ledger.workspace).source.path,
        disk=DiskSpace(ledger.workspace, SystemClock(), stop, _note),
        stop=stop,
        clock=SystemClock(),
        note=_note,
    )
    return pool.train(refits)


def _origins(plan: Sequence[Planned], refitted: Refitted) -> list[Origin]:
    """Return the dates with the weights that forecast; a date has none of a training that failed and that the
    search has no earlier weights for."""
    weights: dict[tuple[int | str, str], tuple[Training, ...]] = {}
    for refit, training in refitted.trained:
        key = (refit.through, refit.run_id)
        weights[key] = (*weights.get(key, ()), training)
    found = []
    for date in plan:
        missing = {refit.run_id for refit in date.refits} - {run for row, run in weights if row == date.row}
        if missing and date.how != "search":
            _note(f"a date is left out: of {', '.join(sorted(missing))} there are no weights for it")
            continue
        members = tuple(_with_weights(one, weights.get((date.row, one.name))) for one in date.chosen.members)
        chosen = date.chosen.model_copy(update={"evaluation": {}})
        forecaster = Ensemble(members=members, weights=chosen.weights)
        found.append(Origin(row=date.row, how=date.how, chosen=chosen, forecaster=forecaster))
    if not found:
        raise NasError("there is no date to forecast from; the notes above say why")
    return found


def _with_weights(member: Member, trainings: tuple[Training, ...] | None) -> Member:
    return member if trainings is None else member.model_copy(update={"trainings": trainings})
