"""One search under fire: starts its agent, kills what it is asked to kill, checks what must hold.

Three witnesses, none of them the agent's own memory: what it said on its standard output before it
died, what the trainings wrote down outside the workspace, and what was killed here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from nas_system.files import read_record
from nas_system.nas_agent.agent_state import AgentState, is_fresh, load_agent_state, mean_score
from nas_system.processes.process_tree import ProcessId, identify, process_id_from_json
from nas_system.processes.run_lock import is_alive

SUPERVISOR = "nas_system.processes.supervisor"
FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]
PROPOSED = re.compile(r"^(run_\d{4}) proposed by ", re.MULTILINE)
FINISHED = re.compile(r"^(run_\d{4}) (?:val_mse|[A-Z_]+:)", re.MULTILINE)


class Search:
    """A workspace, the process that searches in it, and all that is known of both from outside."""

    def __init__(
        self, workspace: Path, *flags: str, stand_in: bool = True, env: dict[str, str] | None = None
    ):
        self.workspace = workspace
        # A training may write nowhere else; `seen_from_outside` makes an exception of this one folder.
        cache = workspace.with_name(f"{workspace.name}.cache")
        self.evidence = cache / "nas_system"
        self.evidence.mkdir(parents=True)
        workspace.mkdir(exist_ok=True)
        trainer = [sys.executable, "-S", str(FOLDER / "training.py"), str(self.evidence)]
        self.command = [
            sys.executable,
            str(FOLDER / "agent.py"),
            *(trainer if stand_in else []),
            "--",
            *flags,
        ]
        self.stand_in = stand_in
        own = {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": f"{FOLDER / 'seen_from_outside'}:{ROOT}"}
        self.env = {**(own if stand_in else {"PYTHONPATH": str(ROOT)}), **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.hits: Counter[str] = Counter()
        """How often a run's supervisor or training was ended from outside, by run."""
        self.reads = 0
        self.said: set[str] = set()
        self.proposals: dict[str, bytes] = {}
        self.last = AgentState()

    # -- the process ---------------------------------------------------------------------------

    def start(self, *under: str) -> subprocess.Popen[bytes]:
        """The same command as ever, if need be under another program."""
        self.starts += 1
        self.output = self.evidence / f"output.{self.starts}"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [*under, *self.command],
                cwd=self.workspace,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def wish(self, name: str, text: str | None) -> None:
        """Tell the stand-in's next trainings what to do (`epoch_s`, `deaf`); None takes it back."""
        if text is None:
            (self.evidence / name).unlink()
        else:
            (self.evidence / name).write_text(text)

    def wait(self, timeout_s: float = 120.0) -> int:
        """The agent's exit code once it has left; its state is checked then."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_agent()
            raise AssertionError(f"the agent did not leave within {timeout_s:g} s:\n{self.text()}") from None
        self.check()
        return code

    def text(self) -> str:
        """What the agent of the last start has printed."""
        return self.output.read_text(errors="replace")

    def kill_agent(self) -> bool:
        """`kill -9`; whether it was still there to be killed."""
        assert self.process is not None
        struck = self.process.poll() is None
        if struck:
            self.process.kill()
            self.process.wait()
        self.check()
        return struck

    def kill_part(self, part: str) -> str | None:
        """`kill -9` a "supervisor" or a "training" of this search; the name of its run if that struck."""
        for run_dir, process in self.running(SUPERVISOR) if part == "supervisor" else self.trainings():
            if process.send(signal.SIGKILL):
                self.hits[self.name_of(run_dir)] += 1
                return self.name_of(run_dir)
        return None

    def running(self, module: str) -> Iterator[tuple[Path, ProcessId]]:
        """Processes of `python -m module`, found by their command, each with its folder in the workspace."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if module in words:
                for word in words[words.index(module) + 1 :]:
                    if Path(word).is_relative_to(self.workspace / "runs"):
                        yield Path(word), identify(int(folder.name))
                        break

    def trainings(self) -> Iterator[tuple[Path, ProcessId]]:
        """Those that the runs' records name; a record may tell of a dead one."""
        for record in self.of_runs("proc.json"):
            process = process_id_from_json((read_record(record) or {}).get("training"))
            if process is not None:
                yield record.parent, process

    def of_runs(self, name: str) -> list[Path]:
        """Return the files of this name in the folders of runs and repeats; `**` fails on what vanishes."""
        patterns = (f"runs/run_*/{name}", f"runs/run_*/repeats/seed_*/{name}")
        return [path for pattern in patterns for path in self.workspace.glob(pattern)]

    def name_of(self, folder: Path) -> str:
        return str(folder.relative_to(self.workspace / "runs")).replace("/", ".")

    def alive(self) -> list[str]:
        """Runs of which a process is left."""
        return [self.name_of(lock.parent) for lock in self.of_runs("run.lock") if is_alive(lock.parent)]

    def clean_up(self) -> None:
        """End whatever a failed test has left."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for _ in range(20):
            if not any([self.kill_part("supervisor"), self.kill_part("training")]):
                break

    # -- what must hold ------------------------------------------------------------------------

    def check(self) -> AgentState:
        """At any instant: the state is whole, has all that was said, and goes only forward."""
        # What was said first: by the time it is read, the state must have it.
        said = self.text()
        state = load_agent_state(self.workspace / "agent_state.json")
        self.reads += 1
        ids, begun = [run.run_id for run in state.runs], sorted(state.run_ids)
        assert begun == [f"run_{number:04d}" for number in range(len(begun))]
        assert "--parallel" in self.command or ids == sorted(ids), "one after the other, they end in turn"
        assert state.runs[: len(self.last.runs)] == self.last.runs, (
            "a run that was there is not, or is changed"
        )
        self.said.update(FINISHED.findall(said))
        assert self.said <= set(ids), f"said to be finished and forgotten: {self.said - set(ids)}"
        assert state.repeats[: len(self.last.repeats)] == self.last.repeats, "a repeat is lost or changed"
        means = {run.run_id: mean_score(state, run) for run in state.runs if run.val_score is not None}
        # In a final only the finalists compete: another run's mean may be lower.
        if means and not any(is_fresh(repeat, state) for repeat in state.repeats):
            assert means[state.best_run_id or ""] == min(means.values()), "not the best run leads"
        for run_id in PROPOSED.findall(said):
            config = (self.workspace / "runs" / run_id / "config_used.py").read_bytes()
            assert self.proposals.setdefault(run_id, config) == config, f"{run_id} was proposed again"
        self.last = state
        return state

    def check_trainings(self) -> None:
        """By the trainings' own ledger: started once and once more per kill, and never two at a time."""
        events: dict[str, list[str]] = {}
        for line in (self.evidence / "ledger").read_text().splitlines():
            name, event, _, _ = line.split()
            events.setdefault(name, []).append(event)
        for name, happened in events.items():
            about = f"{name}: {happened}, hit {self.hits[name]} times"
            assert "overlap" not in happened, about
            assert happened.count("start") <= 1 + self.hits[name], about
            if not self.hits[name]:
                assert happened == ["start", "end"], about
        trained = {name for name in events if "." not in name}
        # A supervisor may be killed before its training starts, and so again at the second attempt.
        assert trained | set(self.hits) >= {run.run_id for run in self.last.runs}

    def most_at_once(self) -> int:
        """Return how many trainings there were at once, by their own ledger; for a search without hits."""
        now, most = set[str](), 0
        for line in (self.evidence / "ledger").read_text().splitlines():
            name, event, _, _ = line.split()
            now = now | {name} if event == "start" else now - {name}
            most = max(most, len(now))
        return most

    def check_statuses(self) -> None:
        """No kill, no trace of one; one kill is made good; only the second one may cost a run its score."""
        for run in self.last.runs:
            if self.hits[run.run_id] <= 1:
                assert run.status == "OK", (run, self.hits)
            else:
                assert run.status in ("OK", "LOST", "KILLED"), (run, self.hits)
            if not self.hits[run.run_id]:
                assert run.attempt == 1, run


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)
