"""A launcher that trains nothing: every run ends at once as it ended in a recorded search."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from nas_agent_graph.analysis.pruning import problem_of
from nas_agent_graph.context import Recomputed, RunState
from nas_agent_graph.replay.drift import AnswerMissing, Drift, RecordingEnds, diff_of_values, place
from nas_system.config_io.config_file import read_config
from nas_system.errors import StateError
from nas_system.files import LARGEST_RECORD_BYTES, finite, read_bounded, read_record
from nas_system.nas_agent.agent_state import BASE_REPEAT, AgentState, get_run, get_run_in_progress
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths
from nas_system.space import canonical_key

_AFTER_THE_END = ("parse_results", "summarize_history", "decide_acceptance")
"""The nodes that act on a run whose training has ended."""


class RecordedLauncher:
    """Copies what the recorded training left behind; weights and pictures are not needed."""

    def __init__(self, state: AgentState, recorded: Path, ledger: Ledger) -> None:
        """`recorded` is the folder of all recorded runs, `state` their state, `ledger` the replay's own."""
        self.state = state
        self.recorded = recorded
        self.ledger = ledger
        self.replayed = ledger.runs_dir
        self._endless: set[Path] = set()
        """Trainings that had not ended when the recording was copied."""

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        """End the training, which `survey` shows when its turn has come; one that was running never ends.

        Raises Drift if another configuration was trained then, or if what pruned.json says does not support
        the stop; AnswerMissing if nothing is known of its end, RecordingEnds if it was not tried so often.
        """
        relative = run_dir.relative_to(self.replayed)
        source, target = RunPaths(self.recorded / relative), RunPaths(run_dir)
        self._check_config(target, relative)
        has_ended = self._training_id(relative) in ends_of(self.state)
        try:
            outcome = read_outcome(source.folder, self.state.metric)  # it may run on this machine
        except StateError:
            self._endless.add(run_dir)
            return
        if outcome.status is Status.MISSING and has_ended:
            raise AnswerMissing(f"the recording holds no outcome of the training of {relative}")
        if outcome.status in (Status.STOPPED, Status.MISSING):
            self._endless.add(run_dir)
            return
        if outcome.attempt < attempt:
            raise RecordingEnds(f"attempt {attempt} at {relative} is not in the recording")
        # Why it was stopped early is taken over, if it stands: no rule is asked again.
        if outcome.pruned is not None and (problem := problem_of(outcome.pruned)) is not None:
            raise Drift(place(relative.parts[0], "parse_results", 0), f"it was stopped early, but {problem}")
        for path in (source.metrics, source.history, source.error, source.log, source.retried, source.pruned):
            copy_record(path, target.folder)
        # Last, as a supervisor would: it is what says that the run has ended.
        copy_record(source.process, target.folder)
        copy_record(source.exit, target.folder)

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        """Return that the runs end in the recorded order: one that ends later is still running."""
        return {run_dir: self._state_of(run_dir) for run_dir in run_dirs}

    def n_queued(self, run_dirs: Sequence[Path]) -> int:
        """Return 0: a recording does not tell which trainings waited."""
        return 0

    def _state_of(self, run_dir: Path) -> RunState:
        if run_dir in self._endless:
            return "running"
        paths = RunPaths(run_dir)
        if not paths.exit.exists():
            return "lost" if paths.process.exists() else "absent"
        recorded, ended = ends_of(self.state), len(ends_of(self.ledger.state))
        training_id = self._training_id(run_dir.relative_to(self.replayed))
        if ended < len(recorded):
            return "finished" if recorded[ended] == training_id else "running"
        # Beyond the recorded verdicts ends only what was being evaluated when the recording was copied.
        run = get_run_in_progress(self.state, training_id)
        return "finished" if run is None or run.step in _AFTER_THE_END else "running"

    def _training_id(self, folder: Path) -> str:
        """Return the run, or the repeat, that a training in this folder ends with: the base config's repeats
        end with the first run."""
        name = folder.as_posix()
        own = {repeat.training_id for repeat in self.state.repeats if repeat.purpose != BASE_REPEAT}
        own |= {run.run_id for run in self.state.in_progress}
        return name if name in own else folder.parts[0]

    def is_running(self, run_dir: Path) -> bool:
        """Return False: no file of a training changes after `submit` has returned."""
        return False

    def cancel(self, run_dir: Path, *, force: bool = False) -> None:
        """Do nothing: nothing ever runs here."""

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        """Raise AnswerMissing: what a search asked for besides its trainings should be in its files."""
        raise AnswerMissing(
            f"the recording in {self.recorded} lacks what the search got from "
            f"`{module} {' '.join(arguments[:1])}`"
        )

    def verify(self, run_dirs: Sequence[Path], *, timeout_s: float) -> list[Recomputed | None]:
        """Return what the recorded search computed; None where it took the training at its word."""
        return [self._recomputed(run_dir.relative_to(self.replayed)) for run_dir in run_dirs]

    def _recomputed(self, folder: Path) -> Recomputed | None:
        paths = (RunPaths(self.recorded / folder), RunPaths(self.recorded / folder.parts[0]))
        found = [(read_record(path.verdict) or {}).get("verified") for path in paths]
        for record in itertools.chain(*(records for records in found if isinstance(records, list))):
            if isinstance(record, dict) and record.get("run") == folder.as_posix():
                # Whether the scores agreed was decided then, and stands in the problem.
                problem = record.get("problem")
                score = None if problem else finite(record.get("val_score"))
                return Recomputed(score, 1, problem if isinstance(problem, str) else None)
        return None

    def memory_limit_mb(self) -> None:
        """Return None: what trains nothing needs no memory."""

    def cores(self) -> int:
        """Return 1: nothing is computed here."""
        return 1

    def cuda_devices(self, name: str) -> tuple[str, ...]:
        """Return none."""
        return ()

    def check_device(self, name: str) -> None:
        """Accept any device: none is used."""

    def check_sandbox(self) -> None:
        """Return None: nothing runs here that would need one."""

    def _check_config(self, target: RunPaths, relative: Path) -> None:
        """Raise Drift for another configuration than the recorded one, whose score this is."""
        run = get_run(self.state, relative.as_posix())
        if run is None or run.key is None or canonical_key(read_config(target.config)) == run.key:
            return
        recorded = read_record(RunPaths(self.recorded / relative).proposal) or {}
        replayed = read_record(target.proposal) or {}
        attempt = replayed.get("attempt")
        raise Drift(
            place(run.run_id, "propose_config", attempt if isinstance(attempt, int) else 0),
            "the proposed configuration is not the recorded one",
            diff_of_values(_proposal(recorded), _proposal(replayed)),
        )


def ends_of(state: AgentState) -> list[str]:
    """Return the runs and the repeats in the order in which they ended; the base config's repeats are part of
    the first run."""
    ends = []
    repeats = [repeat for repeat in state.repeats if repeat.purpose != BASE_REPEAT]
    for number in range(len(state.runs) + 1):
        ends += [repeat.training_id for repeat in repeats if repeat.ended_after == number]
        ends += [run.run_id for run in state.runs[number : number + 1]]
    return ends


def _proposal(record: dict[str, object]) -> dict[str, object]:
    return {name: record.get(name) for name in ("proposer", "parent", "changes")}


def copy_record(source: Path, folder: Path) -> None:
    """Copy a file of a recorded search; what is no file, or larger than any record, is left out."""
    try:
        content = read_bounded(source, LARGEST_RECORD_BYTES)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    # Not durable on purpose: a replay lives in a temporary folder.
    (folder / source.name).write_bytes(content)
