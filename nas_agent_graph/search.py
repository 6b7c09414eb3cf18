"""A search from the command line's words to its last line: what run.py does once its imports are paid for."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_agent_graph.budget import Limits, Spent
from nas_agent_graph.context import (
    Context,
    Launcher,
    Progress,
    Proposer,
    SearchInterrupted,
    StopRequest,
)
from nas_agent_graph.proposers import PROPOSERS
from nas_agent_graph.settings import llm_flags, llm_settings
from nas_agent_graph.show import print_leaderboard, read_facts
from nas_agent_graph.state import initial_state
from nas_system.errors import ConfigError, NasError
from nas_system.files import read_json, sha256_of_file
from nas_system.nas_agent.agent_state import get_best_run
from nas_system.nas_agent.config_file import named_config, read_config, write_config
from nas_system.nas_agent.ledger import Ledger, WorkspaceLock
from nas_system.nas_agent.records import load_record
from nas_system.nas_agent.run_manager import BASE_CONFIG_FILE, FACTS_FILE
from nas_system.space import RunConfig, TaskConfig, canonical_key
from nas_system.space.task_flags import task_fields, task_with

DESCRIBE_TIMEOUT_S = 300.0
SCORE_TIMEOUT_S = 600.0
CANCEL_TIMEOUT_S = 20.0
NEW_FACTS_FILE = "task_facts.new.json"


def run_search(arguments: argparse.Namespace, stop: StopRequest) -> int:
    """Hold the workspace, open or continue its search, drive it to its end. Returns the exit code."""
    from nas_agent_graph.launchers.local import LocalLauncher
    from nas_agent_graph.progress import build_progress

    # Absolute once, at the start: nothing later depends on the current folder.
    workspace = arguments.workspace.expanduser().absolute()
    launcher = LocalLauncher()
    with WorkspaceLock(workspace):
        ledger, note = Ledger.open(workspace)
        if note:
            print(f"note: {note}", file=sys.stderr)
        limits = limits_of(arguments)
        # A run under way has been paid for: it is brought to its end first.
        finished = None if ledger.state.current else limits.reached(Spent.by(ledger.state.runs))
        # Everything a person may have mistyped is checked before the search is written down.
        proposers = None
        if not finished:
            proposers = choose_proposers(
                arguments.proposer, ledger, llm_flags(arguments), max_cost_usd=limits.max_cost_usd
            )
        _check_device(arguments.device, launcher)
        base, facts = open_search(ledger, arguments, launcher)
        if proposers is None:
            _conclude(ledger, launcher, finished or "")
            return 0
        ledger.save(max_runs=arguments.max_runs)
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
            train_command=train_command_of(arguments, _facts_file(ledger)),
            stop=stop,
            started=time.monotonic(),
        )
        end = _drive(context, progress)
        _conclude(ledger, launcher, end)
    return 0


def open_search(
    ledger: Ledger, arguments: argparse.Namespace, launcher: Launcher
) -> tuple[RunConfig, dict[str, Any]]:
    """Base configuration and facts of the task: fixed at the first start, checked at every other."""
    made = ledger.runs_dir / NEW_FACTS_FILE
    made.unlink(missing_ok=True)
    base, facts = look_up_search(ledger, arguments, launcher, ledger.runs_dir)
    if made.exists():
        os.replace(made, _facts_file(ledger))
    write_config(ledger.runs_dir / BASE_CONFIG_FILE, base)
    if ledger.state.task is None:
        ledger.save(task=base.task, data=facts["source"], seed=base.seed, max_runs=arguments.max_runs)
    return base, facts


def look_up_search(
    ledger: Ledger, arguments: argparse.Namespace, launcher: Launcher, folder: Path
) -> tuple[RunConfig, dict[str, Any]]:
    """What `open_search` will fix, with nothing fixed yet; new facts are left in `folder`."""
    stored = ledger.state.task
    task = _task(arguments, stored)
    if stored is not None:
        _refuse_other_task(stored, task)
    base_file = ledger.runs_dir / BASE_CONFIG_FILE
    first = stored is None or not base_file.exists()
    if first:
        base = named_config(arguments.base_config or "default")
        base = base.model_copy(
            update={"task": task, "seed": base.seed if arguments.seed is None else arguments.seed}
        )
        base = RunConfig.model_validate(base.model_dump())
    else:
        base = read_config(base_file)
        _refuse_other_base(base, arguments)
    facts = _facts(ledger, task, arguments, launcher, folder / NEW_FACTS_FILE)
    return (_fitting(base, facts, arguments.base_config) if first else base), facts


def _fitting(base: RunConfig, facts: Mapping[str, Any], name: str | None) -> RunConfig:
    """The base configuration; the default one with a shorter look-back where the series allows no other."""
    longest = facts.get("windows", {}).get("max_seq_len")
    if not isinstance(longest, int) or base.data.seq_len <= longest:
        return base
    problem = (
        f"data.seq_len={base.data.seq_len} leaves no training window, {longest} is the longest that does"
    )
    if name is not None:
        raise ConfigError(f"--base-config {name}: {problem}; shorten it, or bring a longer series")
    plain = base.model_dump()
    plain["data"]["seq_len"] = max(1, longest // 2)
    plain["model"]["label_len"] = min(plain["model"].get("label_len", 0), plain["data"]["seq_len"])
    print(f"note: the default's {problem}; run_0000 looks back {plain['data']['seq_len']} steps", flush=True)
    try:
        return RunConfig.model_validate(plain)
    except ValidationError:
        raise ConfigError(f"the series is too short to search on: {problem}; bring a longer one") from None


def choose_proposers(
    name: str | None,
    ledger: Ledger,
    flags: Mapping[str, str] | None = None,
    *,
    max_cost_usd: float | None = None,
) -> tuple[Proposer, Proposer]:
    """The proposer and its fallback; says in one line who proposes and why."""
    settings = None
    if name in (None, "llm"):
        folders = (ledger.workspace, Path.cwd())
        settings = llm_settings(os.environ, demanded=name == "llm", flags=flags, folders=folders)
    tpe = PROPOSERS["tpe"]()
    if settings is not None:
        from nas_agent_graph.llm.client import ChatClient
        from nas_agent_graph.llm.prices import how_to_know
        from nas_agent_graph.llm.recording import RecordedFallback, Transcript
        from nas_agent_graph.proposers.llm import LLMProposer

        client = ChatClient(settings)
        if max_cost_usd is not None and client.price is None:
            raise ConfigError(f"--max-cost needs a price: {how_to_know(settings)}")
        print(f"proposer: llm, {settings.model} at {settings.endpoint}; tpe when it fails", flush=True)
        transcript = Transcript(ledger.runs_dir, secret=settings.api_key)
        return LLMProposer(client, transcript), RecordedFallback(tpe, transcript)
    if name is None:
        print("proposer: tpe (no model is named; NAS_LLM_MODEL turns the language model on)", flush=True)
        return tpe, tpe
    if name not in PROPOSERS:
        raise ConfigError(f"--proposer {name!r} is not known; choose from: {', '.join([*PROPOSERS, 'llm'])}")
    print(f"proposer: {name}", flush=True)
    proposer = PROPOSERS[name]()
    return proposer, proposer


def _drive(context: Context, progress: Progress) -> str:
    """Run the graph to its end; a training under way is stopped before an interruption leaves here."""
    # Tracing uploads what the nodes are given; only a person may turn it on, by name.
    if not os.environ.get("NAS_TRACING"):
        os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"
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


def _check_device(device: str, launcher: Launcher) -> None:
    """Raises ConfigError for a device that is not there: every run of the search would fail on it."""
    if device not in ("auto", "cpu"):
        launcher.call("nas_system.describe", ["--check-device", device], timeout_s=DESCRIBE_TIMEOUT_S)


def _stop_training(context: Context) -> None:
    """A signal may come at any instant, also between the start of a training and the wait for it."""
    context.stop.waiting = True
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


def _conclude(ledger: Ledger, launcher: Launcher, end: str) -> None:
    """Score the champion on the sealed rows (once), print the leaderboard and what comes next."""
    champion = get_best_run(ledger.state)
    print(f"\nThe search has ended: {end}.")
    if champion is not None and champion.run_id not in ledger.state.sealed and _has_sealed_rows(ledger):
        try:
            score = json.loads(
                launcher.call(
                    "nas_system.score",
                    ["--run", str(ledger.paths(champion.run_id).folder), "--facts", str(_facts_file(ledger))],
                    timeout_s=SCORE_TIMEOUT_S,
                )
            )
            ledger.save(sealed={**ledger.state.sealed, champion.run_id: score["sealed_mse"]})
        except NasError as error:
            print(f"note: the champion could not be scored on the sealed rows ({error})", file=sys.stderr)
    print()
    print_leaderboard(ledger.workspace, ledger.state, read_facts(ledger.workspace, ledger.state))
    print()
    elsewhere = "" if ledger.workspace == Path.cwd() else f" --workspace {shlex.quote(str(ledger.workspace))}"
    if champion is None:
        print(f"No run has a score. Look at one: python -m nas_agent_graph.show run_0000{elsewhere}")
        return
    print(f"best model: {ledger.paths(champion.run_id).best_model}")
    print(f"look at it: python -m nas_agent_graph.show {champion.run_id}{elsewhere}")
    print(f"go on:      python -m nas_agent_graph.run --max-runs {len(ledger.state.runs) * 2}{elsewhere}")


def _has_sealed_rows(ledger: Ledger) -> bool:
    facts = _read_facts(_facts_file(ledger)) or {}
    return facts.get("windows", {}).get("sealed") != 0


def _task(arguments: argparse.Namespace, stored: TaskConfig | None) -> TaskConfig:
    """The stored task, or the default one, with the given flags on top."""
    given = task_fields(arguments)
    if "dataset" in given:
        path = Path(given["dataset"]).expanduser()
        if path.suffix != "" or os.sep in given["dataset"]:
            given["dataset"] = str(path.absolute())
    return task_with(stored or TaskConfig(), given)


def _refuse_other_task(stored: TaskConfig, wanted: TaskConfig) -> None:
    before, now = stored.model_dump(), wanted.model_dump()
    different = [
        f"{name} is {_shown(before[name])}, not {_shown(now[name])}"
        for name in before
        if before[name] != now[name]
    ]
    if different:
        raise ConfigError(
            f"this workspace holds a search for another task ({'; '.join(different)}); "
            "choose another --workspace, or leave the task flags out"
        )


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _refuse_other_base(base: RunConfig, arguments: argparse.Namespace) -> None:
    if arguments.base_config is not None:
        # Compared under this search's task, which may leave fields without effect.
        wanted = named_config(arguments.base_config).model_copy(update={"task": base.task})
        if canonical_key(wanted) != canonical_key(base):
            raise ConfigError(
                f"this search began with another base configuration than {arguments.base_config!r}; "
                "choose another --workspace, or leave --base-config out"
            )
    if arguments.seed is not None and arguments.seed != base.seed:
        raise ConfigError(
            f"this search began with --seed {base.seed}, not {arguments.seed}; choose another --workspace"
        )


def _facts_file(ledger: Ledger) -> Path:
    return ledger.runs_dir / FACTS_FILE


def _facts(
    ledger: Ledger, task: TaskConfig, arguments: argparse.Namespace, launcher: Launcher, made: Path
) -> dict[str, Any]:
    """The task's facts; made once, made again only if the data has moved, never with other data."""
    facts = _read_facts(_facts_file(ledger))
    stored = ledger.state.data
    if facts is not None and stored is not None and _data_is_there(facts) and arguments.data_dir is None:
        return facts
    command = ["--out", str(made), "--task-json", task.model_dump_json()]
    if arguments.data_dir is not None:
        command += ["--data-dir", str(arguments.data_dir.expanduser().absolute())]
    if arguments.dry_run:
        command.append("--no-download")
    launcher.call("nas_system.describe", command, timeout_s=DESCRIBE_TIMEOUT_S)
    facts = read_json(made)
    if stored is not None and facts["source"]["sha256"] != stored["sha256"]:
        made.unlink()
        raise ConfigError(
            f"this search began with the data {stored['name']} ({stored['kind']}, sha256 "
            f"{stored['sha256'][:12]}), but now there is {facts['source']['name']} "
            f"({facts['source']['kind']}, sha256 {facts['source']['sha256'][:12]}); one search never "
            "mixes two. Bring the first back (--data-dir), or choose another --workspace"
        )
    if facts["source"]["notice"]:
        print(f"NOTE: {facts['source']['notice']}", flush=True)
    return facts


def _read_facts(file: Path) -> dict[str, Any] | None:
    facts = load_record(file)
    return facts if facts is not None and "source" in facts else None


def _data_is_there(facts: dict[str, Any]) -> bool:
    path = facts["source"]["path"]
    if path is None:
        return True
    return Path(path).is_file() and sha256_of_file(Path(path)) == facts["source"]["sha256"]


def limits_of(arguments: argparse.Namespace) -> Limits:
    return Limits(
        max_runs=arguments.max_runs,
        max_seconds=None if arguments.max_hours is None else arguments.max_hours * 3600,
        max_tokens=arguments.max_tokens,
        max_cost_usd=arguments.max_cost,
        run_seconds=None if arguments.minutes_per_run is None else arguments.minutes_per_run * 60,
        repeat_baseline=arguments.repeat_baseline,
    )


def train_command_of(arguments: argparse.Namespace, facts_file: Path) -> tuple[str, ...]:
    command = [sys.executable, "-m", "nas_system.train", "--facts", str(facts_file)]
    command += ["--device", arguments.device]
    if arguments.threads is not None:
        command += ["--threads", str(arguments.threads)]
    return tuple(command)
