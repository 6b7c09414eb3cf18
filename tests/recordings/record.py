"""Records the searches that tests/test_replay.py replays: python tests/recordings/record.py [NAME ...]

A scripted model answers over real HTTP on loopback; the command line, the prompts, the repairs and the
trainings are real. To be run again whenever a prompt is changed on purpose: the recordings hold the
prompts word for word.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer

HERE = Path(__file__).resolve().parent
PROJECT_ROOT = HERE.parents[1]
KEPT = ("transcript.jsonl", "proposal.json", "metrics.json", "history.json", "exit.json", "error.json")
"""Of a run's folder; weights, pictures and logs are not needed for a replay."""
BASE = "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 2}\n"
FLAGS = ("--dataset", "synthetic", "--pred-len", "4", "--base-config", "base.yaml", "--threads", "1")
NOTICE = "SCRIPTED MODEL: these answers were written by hand and say nothing about any language model."


def answer(parent: str = "run_0000", expected: float = 0.05, **changes: Any) -> str:
    """A well-formed proposal; `training__lr` stands for training.lr."""
    return json.dumps(
        {
            "parent": parent,
            "changes": [
                {"parameter": name.replace("__", "."), "value": json.dumps(value)}
                for name, value in changes.items()
            ],
            "hypothesis": "scripted",
            "expected_val_mse": expected,
        }
    )


@dataclass(frozen=True)
class Call:
    """One start of the program: what the model answers meanwhile, and how the program must end."""

    max_runs: int
    answers: tuple[Reply | str, ...]
    flags: tuple[str, ...] = ("--proposer", "llm")
    ends_with: int = 0


SEARCHES = {
    # Prose, a value out of bounds, a repeated configuration, and three bad answers in a row.
    "mended_answers": [
        Call(
            6,
            (
                answer(training__lr=0.02),
                "I would raise the learning rate.",
                "<think>{}</think>```json\n" + answer(data__seq_len=48) + "\n```",
                answer(training__lr=70.0),
                answer(training__lr=0.005),
                answer(training__lr=0.02),
                answer(training__lr=0.04, parent="run_0001"),
                *("no", "still no", '{"parent": "run_0000", "changes": ['),
            ),
        )
    ],
    # Paused after a bad answer because the key is refused, continued with more runs, then without model.
    "continued": [
        Call(3, (answer(training__lr=0.02), "no idea", FAULTS["bad_key"]), ends_with=4),
        Call(4, ("hm", answer(training__lr=0.01), FAULTS["bad_key"]), ends_with=4),
        Call(4, (), flags=("--proposer", "tpe")),
    ],
}


def record(name: str, target: Path) -> None:
    """Run the search in a temporary folder and keep what a replay needs of it in `target`."""
    environment = {
        **os.environ,
        "NAS_STATS_SECONDS": "0",  # a recording holds what every installation has
        "PYTHONPATH": str(PROJECT_ROOT),
        "NAS_LLM_MODEL": "scripted",
        "NAS_LLM_API_KEY": "scripted-key",
    }
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        (workspace / "base.yaml").write_text(BASE)
        for number, call in enumerate(SEARCHES[name]):
            command = [sys.executable, "-m", "nas_agent_graph.run", "--max-runs", str(call.max_runs)]
            command += [*(FLAGS if number == 0 else ()), *call.flags]
            with ScriptedServer(call.answers) as model:
                env = {**environment, "NAS_LLM_BASE_URL": model.url}
                done = subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True)
            if done.returncode != call.ends_with or len(model.requests) != len(call.answers):
                raise SystemExit(f"{name}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
        keep(workspace, target)
    (target / "README").write_text(f"{NOTICE}\nMade by tests/recordings/record.py {name}\n")


def keep(workspace: Path, target: Path) -> None:
    """Copy the files of the search that a replay reads."""
    if target.exists():
        shutil.rmtree(target)
    files = [workspace / "agent_state.json", *(workspace / "runs").glob("*.json")]
    files += [workspace / "runs/base_config.py"]
    files += [path for kept in KEPT for path in (workspace / "runs").rglob(kept)]
    for path in files:
        copy = target / path.relative_to(workspace)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or SEARCHES:
        record(wanted, HERE / wanted)
        print(f"recorded {wanted}")
