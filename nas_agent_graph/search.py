"""A search from the command line's words to its last line: what run.py does once its imports are paid for."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_agent_graph.budget import Limits, Spent
from nas_agent_graph.context import (
    Context,
    Launcher,
    Progress,
    Proposer,
    SearchInterrupted,
    StopRequest,
    SystemClock,
)
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.proposers import PROPOSERS, netformer
from nas_agent_graph.search_setup import (
    DESCRIBE_TIMEOUT_S,
    facts_file_of,
    open_search,
    read_search_facts,
    task_of,
)
from nas_agent_graph.settings import LLMSettings, llm_flags, llm_settings
from nas_agent_graph.show.pages import print_leaderboard, read_facts
from nas_agent_graph.state import initial_state
from nas_system.errors import ConfigError, NasError
from nas_system.nas_agent.agent_state import get_best_run
from nas_system.nas_agent.ledger import Ledger, WorkspaceLock
from nas_system.nas_agent.own_archive import own_archive
from nas_system.processes.job import SILENCE_LIMIT_S, memory_limit_mb
from nas_system.processes.machine_memory import total_memory_mb
from nas_system.space import ForecastingTask, metric_on

SCORE_TIMEOUT_S = 600.0
CANCEL_TIMEOUT_S = 20.0


def run_search(
    arguments: argparse.Namespace, stop: StopRequest, *, trainer: Sequence[str] | None = None
) -> int:
    """Hold the workspace, open or continue its search, drive it to its end. Returns the exit code.

    `trainer` is the command line that trains in the place of `python -m nas_system.train`.
    """
    from nas_agent_graph.launchers.local import LocalLauncher
    from nas_agent_graph.progress.plain import build_progress

    # Absolute once, at the start: nothing later depends on the current folder.
    workspace = arguments.workspace.expanduser().absolute()
    launcher = LocalLauncher()
    limits = limits_of(arguments)
    disk = DiskSpace(
        workspace, SystemClock(), stop, _say, limits.least_free_mb, longest_wait_s=limits.disk_wait_seconds
    )
    with WorkspaceLock(workspace):
        ledger, note = disk.retry_until_space(lambda: Ledger.open(workspace))
        if note:
            _say(note)
        # A run under way has been paid for: it is brought to its end first.
        finished = None if ledger.state.current else limits.reached(Spent.by(ledger.state.runs))
        # Everything a person may have mistyped is checked before the search is written down.
        proposers = None
        if not finished:
            proposers = choose_proposers(
                arguments.proposer,
                ledger,
                llm_flags(arguments),
                max_cost_usd=limits.max_cost_usd,
                retry_until_space=disk.retry_until_space,
            )
            if arguments.proposer == netformer.NAME and not netformer.list_file_of(ledger.runs_dir).exists():
                netformer.check_task(task_of(arguments, ledger.state.task))
                netformer.check_model(launcher)
        if trainer is None:
            _prepare_trainer(arguments.device, launcher)
        base, facts = disk.retry_until_space(lambda: open_search(ledger, arguments, launcher, disk))
        if proposers is not None and arguments.proposer == netformer.NAME:
            proposers = (_netformer(ledger, launcher, facts, base.seed, disk), proposers[1])
        if proposers is None:
            _conclude(ledger, launcher, finished or "", disk)
            return 0
        disk.retry_until_space(lambda: ledger.save(max_runs=arguments.max_runs))
        progress = build_progress()
        context = Context(
            ledger=ledger,
            base=base,
            facts=facts,
            proposer=proposers[0],
            fallback=proposers[1],
            launcher=launcher,
            progress=progress,
            limits=limits,
            train_command=train_command_of(arguments, facts_file_of(ledger), trainer),
            stop=stop,
            started=time.monotonic(),
        )
        end = _drive(context, progress)
        _conclude(ledger, launcher, end, disk)
        if isinstance(base.task, ForecastingTask) and (
            # Who has an archive of their own wants it to grow; nobody else's home is written to.
            arguments.proposer == netformer.NAME or own_archive().exists()
        ):
            _remember(ledger, launcher)
    return 0


def _say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def choose_proposers(
    name: str | None,
    ledger: Ledger,
    flags: Mapping[str, str] | None = None,
    *,
    max_cost_usd: float | None = None,
    retry_until_space: Callable[[Callable[[], None]], None] = lambda write: write(),
) -> tuple[Proposer, Proposer]:
    """The proposer and its fallback; says in one line who proposes and why. `insist` writes transcripts."""
    settings = model_settings(name, ledger.workspace, flags, max_cost_usd=max_cost_usd)
    tpe = PROPOSERS["tpe"]()
    if settings is not None:
        from nas_agent_graph.llm.client import ChatClient
        from nas_agent_graph.llm.recording import RecordedFallback, Transcript
        from nas_agent_graph.proposers.llm import LLMProposer

        client = ChatClient(settings)
        print(f"proposer: llm, {settings.model} at {settings.endpoint}; tpe when it fails", flush=True)
        transcript = Transcript(
            ledger.runs_dir, secret=settings.api_key, retry_until_space=retry_until_space, warn=_say
        )
        return LLMProposer(client, transcript), RecordedFallback(tpe, transcript)
    if name is None:
        print("proposer: tpe (no model is named; NAS_LLM_MODEL turns the language model on)", flush=True)
        return tpe, tpe
    if name == netformer.NAME:
        print(f"proposer: netformer for {netformer.OPENING} runs, then tpe", flush=True)
        return tpe, tpe  # the list needs the facts of the task, which are not there yet
    print(f"proposer: {name}", flush=True)
    proposer = PROPOSERS[name]()
    return proposer, proposer


def _netformer(
    ledger: Ledger, launcher: Launcher, facts: dict[str, Any], seed: int, disk: DiskSpace
) -> Proposer:
    """The ranked list of this search, made before its first run: no later one waits or fails on it."""

    def make() -> netformer.RankedList:
        return netformer.make_list(launcher, ledger.runs_dir, facts_file_of(ledger), facts, seed)

    return netformer.NetformerProposer(disk.retry_until_space(make))


def _remember(ledger: Ledger, launcher: Launcher) -> None:
    """What this search found teaches the next one."""
    try:
        _say(netformer.add_to_archive(launcher, ledger.workspace))
    except NasError as error:
        _say(f"the search was not added to the archive ({error})")


def model_settings(
    name: str | None, workspace: Path, flags: Mapping[str, str] | None = None, *, max_cost_usd: float | None
) -> LLMSettings | None:
    """The language model's settings; None if the proposer called `name` asks none, or no model is named.

    Raises ConfigError for an unknown proposer, for settings that cannot be meant, and for a budget of
    money without a price.
    """
    if name not in (None, "llm"):
        if name not in (*PROPOSERS, netformer.NAME):
            known = ", ".join([*PROPOSERS, netformer.NAME, "llm"])
            raise ConfigError(f"--proposer {name!r} is not known; choose from: {known}")
        return None
    folders = (workspace, Path.cwd())
    settings = llm_settings(os.environ, demanded=name == "llm", flags=flags, folders=folders)
    if settings is not None and max_cost_usd is not None:
        from nas_agent_graph.llm.prices import how_to_know, price_of

        if price_of(settings) is None:
            raise ConfigError(f"--max-cost needs a price: {how_to_know(settings)}")
    return settings


def _drive(context: Context, progress: Progress) -> str:
    """Run the graph to its end; a training under way is stopped before an interruption leaves here."""
    # Tracing uploads what the nodes are given; only a person may turn it on, by name.
    if not os.environ.get("NAS_TRACING"):
        os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"
    with context.stop.held_back():
        from nas_agent_graph.graph import build_graph, steps_for

    progress.begin(context.ledger.state, context.facts, context.limits)
    try:
        final = build_graph().invoke(
            initial_state(),
            config={"recursion_limit": steps_for(context.limits)},
            context=context,
        )
    except SearchInterrupted:
        _stop_training(context)
        raise
    finally:
        progress.close()
    return final["end"]


def _prepare_trainer(device: str, launcher: Launcher) -> None:
    """Raises ConfigError for a device that is not there: every run of the search would fail on it."""
    # Some installers leave compiling to the first import, and a training in its sandbox cannot keep what it
    # has compiled: each would spend seconds on it again.
    if device not in ("auto", "cpu") or not has_bytecode("torch"):
        launcher.call("nas_system.describe", ["--check-device", device], timeout_s=DESCRIBE_TIMEOUT_S)


def has_bytecode(module: str) -> bool:
    """Whether the installed module has been compiled; it is found, not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return True  # there is nothing to compile
    return Path(importlib.util.cache_from_source(spec.origin)).exists()


def _stop_training(context: Context) -> None:
    """Nothing that this search trains outlives an agent that was asked to stop."""
    current = context.ledger.state.current
    if current is None:
        return
    folder = context.ledger.paths(current.run_id).folder
    folders = [folder, *(folder / "repeats").glob("seed_*")]
    deadline = time.monotonic() + CANCEL_TIMEOUT_S
    while running := [path for path in folders if context.launcher.poll(path) == "running"]:
        for path in running:
            context.launcher.cancel(path, force=context.stop.force or time.monotonic() > deadline)
        time.sleep(0.1)


def _conclude(ledger: Ledger, launcher: Launcher, end: str, disk: DiskSpace) -> None:
    """Score the best run on the hold-out rows (once), print the leaderboard and what comes next."""
    best_run, facts = get_best_run(ledger.state), facts_file_of(ledger)
    print(f"\nThe search has ended: {end}.")
    if best_run is not None and best_run.run_id not in ledger.state.hold_out and _has_hold_out_rows(ledger):
        try:
            score = json.loads(
                launcher.call(
                    "nas_system.score",
                    ["--run", str(ledger.paths(best_run.run_id).folder), "--facts", str(facts)],
                    timeout_s=SCORE_TIMEOUT_S,
                )
            )
            figure = score[metric_on("sealed", ledger.state.metric)]
            hold_out = {**ledger.state.hold_out, best_run.run_id: figure}
            disk.retry_until_space(lambda: ledger.save(hold_out=hold_out))
        except NasError as error:
            print(f"note: the best run could not be scored on the hold-out rows ({error})", file=sys.stderr)
    print()
    print_leaderboard(ledger.workspace, ledger.state, read_facts(ledger.workspace, ledger.state))
    print()
    elsewhere = "" if ledger.workspace == Path.cwd() else f" --workspace {shlex.quote(str(ledger.workspace))}"
    if best_run is None:
        print(f"No run has a score. Look at one: python -m nas_agent_graph.show run_0000{elsewhere}")
        return
    print(f"best model: {ledger.paths(best_run.run_id).best_model}")
    print(f"look at it: python -m nas_agent_graph.show {best_run.run_id}{elsewhere}")
    print(f"go on:      python -m nas_agent_graph.run --max-runs {len(ledger.state.runs) * 2}{elsewhere}")


def _has_hold_out_rows(ledger: Ledger) -> bool:
    facts = read_search_facts(facts_file_of(ledger)) or {}
    return facts.get("windows", {}).get("sealed") != 0


def limits_of(arguments: argparse.Namespace) -> Limits:
    return Limits(
        max_runs=arguments.max_runs,
        max_seconds=None if arguments.max_hours is None else arguments.max_hours * 3600,
        max_tokens=arguments.max_tokens,
        max_cost_usd=arguments.max_cost,
        run_seconds=None if arguments.minutes_per_run is None else arguments.minutes_per_run * 60,
        least_free_mb=arguments.keep_free,
        disk_wait_seconds=None if arguments.wait_for_disk is None else arguments.wait_for_disk * 60,
        silence_seconds=_silence_limit_s(arguments.max_silent_minutes),
        memory_mb=_memory_limit_mb(arguments.memory_per_run),
        repeat_base=arguments.repeat_base,
    )


def _silence_limit_s(minutes: float | None) -> float | None:
    """Not given: the default. 0: no limit."""
    return SILENCE_LIMIT_S if minutes is None else minutes * 60 or None


def _memory_limit_mb(gib: float | None) -> int | None:
    """Not given: a share of the machine's. 0: no limit."""
    return memory_limit_mb(total_memory_mb()) if gib is None else math.ceil(gib * 1024) or None


def train_command_of(
    arguments: argparse.Namespace, facts_file: Path, trainer: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The beginning of every training's command line."""
    if trainer is not None:
        return tuple(trainer)
    command = [sys.executable, "-m", "nas_system.train", "--facts", str(facts_file)]
    command += ["--device", arguments.device]
    if arguments.threads is not None:
        command += ["--threads", str(arguments.threads)]
    return tuple(command)
