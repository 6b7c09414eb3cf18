"""Every way a run can end, from the files it leaves."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from nas_system.errors import NasError, StateError, advice_on_limit
from nas_system.nas_agent.outcome import Status, is_alive, log_tail, read_outcome
from nas_system.processes.job import Job
from nas_system.processes.process_tree import identify

GOOD = {
    "schema": 1,
    "attempt": 1,
    "ended": "exited",
    "returncode": 0,
    "signal": None,
    "message": None,
    "wall_s": 12.5,
    "peak_memory_mb": 812.0,
    "kernel_oom_kills": 0,
    "disk_free_mb": 5000.0,
}


def write(path: Path, value: Any) -> None:
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def ended_run(run_dir: Path, *, error: Any = None, metrics: Any = None, **exit_fields: Any) -> Path:
    write(run_dir / "exit.json", {**GOOD, **exit_fields})
    if error is not None:
        write(run_dir / "error.json", error)
    if metrics is not None:
        write(run_dir / "metrics.json", metrics)
    return run_dir


@contextmanager
def held_lock(run_dir: Path) -> Iterator[None]:
    with open(run_dir / "run.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(("direction", "status"), [("maximize", Status.OK), ("minimize", Status.BAD_RESULT)])
def test_a_negative_score_is_one_only_where_more_is_better(
    tmp_path: Path, direction: str, status: Status
) -> None:
    """R2 can be negative, an error cannot."""
    outcome = read_outcome(ended_run(tmp_path, metrics={"val_r2": -0.25, "direction": direction}), "val_r2")
    assert outcome.status is status
    assert outcome.val_score == (-0.25 if status is Status.OK else None)


def test_a_good_run_has_its_score_and_numbers(tmp_path: Path) -> None:
    ended_run(tmp_path, metrics={"val_mse": 0.25, "test_mse": 0.5}, confinement="landlock 7: writes")
    write(tmp_path / "history.json", {"epochs": [{"epoch": 1}, {"epoch": 2}]})
    outcome = read_outcome(tmp_path)
    assert asdict(outcome) == {
        "status": "OK",
        "cause": None,
        "val_score": 0.25,
        "test_score": 0.5,
        "attempt": 1,
        "returncode": 0,
        "signal": None,
        "wall_s": 12.5,
        "peak_memory_mb": 812.0,
        "epoch": 2,
        "step": None,
        "requested": False,
        "refused": False,
        "sandbox": "landlock 7: writes",
        "not_held": {},
        "pruned": None,
        "numbers": {},
    }
    assert json.loads(json.dumps(asdict(outcome)))["status"] == "OK"


@pytest.mark.parametrize("score", [0, 0.0, 1, 1e300, 10**20])
def test_any_finite_score_from_zero_on_counts(tmp_path: Path, score: float) -> None:
    outcome = read_outcome(ended_run(tmp_path, metrics={"val_mse": score}))
    assert (outcome.status, outcome.val_score) == (Status.OK, float(score))


NESTED = "[" * 100_000
BAD_METRICS = {
    "missing": (None, "wrote no metrics.json"),
    "empty": ("", "is empty"),
    "blanks": (" \n", "is empty"),
    "torn": ('{"val_mse": 0.1', "is not JSON"),
    "NULs": ("\0" * 20, "is empty but for 20"),
    "a list": ([0.1], "holds a list"),
    "a number": (0.1, "holds a float"),
    "null": ("null", "holds a NoneType"),
    "nested": (NESTED, "nested too deeply"),
    "no score": ({"test_mse": 0.1}, "has no val_mse"),
    "true": ({"val_mse": True}, "not a number: True"),
    "a string": ({"val_mse": "0.1"}, "not a number: '0.1'"),
    "a null": ({"val_mse": None}, "not a number: None"),
    "an object": ({"val_mse": {}}, "not a number: {}"),
    "NaN": ('{"val_mse": NaN}', "not finite: nan"),
    "infinite": ('{"val_mse": Infinity}', "not finite: inf"),
    "overflow": ('{"val_mse": 1e400}', "not finite: inf"),
    "a huge integer": ('{"val_mse": 1' + "0" * 400 + "}", "not finite: 1000"),
    "too many digits": ('{"val_mse": 1' + "0" * 5000 + "}", "is not JSON"),
    "negative": ({"val_mse": -0.1}, "negative val_mse: -0.1"),
}


@pytest.mark.parametrize("name", BAD_METRICS)
@pytest.mark.fault(25)
def test_a_bad_result_is_named(tmp_path: Path, name: str) -> None:
    metrics, complaint = BAD_METRICS[name]
    outcome = read_outcome(ended_run(tmp_path, metrics=metrics))
    assert (outcome.status, outcome.val_score) == (Status.BAD_RESULT, None)
    assert complaint in (outcome.cause or "")
    assert len(outcome.cause or "") <= 200


@pytest.mark.fault(25)
def test_a_result_that_is_no_file_is_a_bad_result(tmp_path: Path) -> None:
    ended_run(tmp_path)
    (tmp_path / "metrics.json").mkdir()
    assert "not a file" in (read_outcome(tmp_path).cause or "")
    (tmp_path / "metrics.json").rmdir()
    os.mkfifo(tmp_path / "metrics.json")
    assert "not a file" in (read_outcome(tmp_path).cause or ""), "a FIFO must not block the reader"
    (tmp_path / "metrics.json").unlink()
    with open(tmp_path / "metrics.json", "wb") as file:
        file.truncate(100 * 2**20)
    assert "more than any such file" in (read_outcome(tmp_path).cause or "")
    (tmp_path / "metrics.json").write_bytes(b'{"val_mse": "\xff"}')
    assert read_outcome(tmp_path).status is Status.BAD_RESULT


def exited(code: int, **more: Any) -> dict[str, Any]:
    return {"ended": "exited", **more, "returncode": code}


def signaled(number: int, ended: str = "signaled", **more: Any) -> dict[str, Any]:
    return {"ended": ended, "returncode": None, "signal": number, **more}


def said(kind: str, message: Any, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "message": message, **more}


NOTHING = "it printed nothing"
TIME = (
    "ended by the hard time limit after 12 s: it hung, the machine was overloaded, or it needs less width, "
    "depth or, for a series, seq_len"
)
SILENCE = "no output and no new epoch for too long; ended after 12 s"
MEMORY = (
    "its processes held 812 MiB, more than the limit; "
    "reduce batch_size, the model's width or, for a series, seq_len"
)
KERNEL = "the kernel ended it because the machine ran out of memory; reduce batch_size or the width"

# The supervisor's record, the training's error.json, and what they amount to.
OUTCOMES: list[tuple[dict[str, Any], dict[str, Any] | None, Status, str]] = [
    (exited(2), said("config", "unknown family"), Status.FAILED, "config: unknown family"),
    (exited(2), None, Status.FAILED, f"config: exit code 2: {NOTHING}"),
    # Refused at its first batch: the kind stands first, so that a proposer sees it whatever is cut off.
    (exited(2), said("preflight:memory", "9 MiB needed"), Status.FAILED, "preflight:memory: 9 MiB needed"),
    (exited(2), said("preflight:time", "x" * 300), Status.FAILED, f"preflight:time: {'x' * 180} ..."),
    (exited(1), said("preflight:shape", "(2, 1)"), Status.FAILED, "preflight:shape: (2, 1)"),
    (exited(3), said("diverged", "loss is NaN", epoch=3), Status.DIVERGED, "loss is NaN"),
    (exited(3), None, Status.DIVERGED, f"exit code 3: {NOTHING}"),
    (exited(4), said("oom_gpu", "needs 90 GB"), Status.OOM_GPU, "needs 90 GB"),
    (exited(4), said("oom_host", "MemoryError"), Status.OOM_HOST, "MemoryError"),
    (exited(4), None, Status.OOM_HOST, f"exit code 4: {NOTHING}"),
    (exited(5), said("stopped", "SIGTERM"), Status.STOPPED, "SIGTERM"),
    (exited(1), said("crash", "KeyError: 'OT'"), Status.FAILED, "KeyError: 'OT'"),
    (exited(1), said("disk_full", "best_model.pth"), Status.DISK_FULL, "best_model.pth"),
    (exited(1), None, Status.FAILED, f"exit code 1: {NOTHING}"),
    (exited(77), said("whim", 3), Status.FAILED, f"exit code 77: {NOTHING}"),
    # A disk so full that not even error.json could be written.
    (exited(1, disk_free_mb=0.1), None, Status.DISK_FULL, "the disk is full"),
    (signaled(9), None, Status.KILLED, "ended by signal 9 (SIGKILL)"),
    (signaled(99), None, Status.KILLED, "ended by signal 99 (unknown)"),
    (signaled(11), said("crash", "in conv"), Status.KILLED, "ended by signal 11 (SIGSEGV): in conv"),
    # It said why, and crashed while it tidied up.
    (signaled(6), said("oom_gpu", "needs 90 GB"), Status.OOM_GPU, "needs 90 GB"),
    (signaled(9, kernel_oom_kills=1), None, Status.OOM_HOST, KERNEL),
    (signaled(9, "time_limit"), None, Status.TIMEOUT, TIME),
    # A good end after the hard limit comes too late: there is no score.
    (exited(0, ended="time_limit"), None, Status.TIMEOUT, TIME),
    (signaled(6, "silence_limit"), None, Status.HUNG, SILENCE),
    (signaled(9, "memory_limit"), None, Status.OOM_HOST, MEMORY),
    (exited(5, ended="stop_request"), None, Status.STOPPED, "stopped on request"),
    (signaled(9, "stop_request"), None, Status.STOPPED, "stopped on request"),
    (
        {"ended": "cannot_start", "returncode": None, "message": "no such file: 'python'"},
        None,
        Status.FAILED,
        "cannot start the training: no such file: 'python'",
    ),
]


@pytest.mark.parametrize(("fields", "error", "status", "cause"), OUTCOMES)
@pytest.mark.fault(16, 17, 18, 19, 20, 21, 24, 26)
def test_every_end_has_its_name_and_cause(
    tmp_path: Path, fields: dict[str, Any], error: dict[str, Any] | None, status: Status, cause: str
) -> None:
    # A metrics.json lies there too: without exit code 0 it is no success.
    outcome = read_outcome(ended_run(tmp_path, error=error, metrics={"val_mse": 0.1}, **fields))
    assert (outcome.status, outcome.cause, outcome.val_score) == (status, cause, None)
    assert (outcome.wall_s, outcome.peak_memory_mb) == (12.5, 812.0)


def test_the_table_of_ends_leaves_no_status_out() -> None:
    seen = {status for _, _, status, _ in OUTCOMES}
    assert seen == set(Status) - {Status.OK, Status.BAD_RESULT, Status.LOST, Status.MISSING, Status.PRUNED}


@pytest.mark.fault(16)
def test_numbers_of_the_error_are_kept(tmp_path: Path) -> None:
    error = {
        "kind": "diverged",
        "message": "x",
        "epoch": 3,
        "step": 120,
        "loss": 1.5,
        "flag": True,
        "big": 10**400,
    }
    outcome = read_outcome(ended_run(tmp_path, error=error, returncode=3))
    assert (outcome.epoch, outcome.step) == (3, 120)
    assert outcome.numbers == {"epoch": 3.0, "step": 120.0, "loss": 1.5}


def test_a_training_that_was_ready_when_asked_to_stop_keeps_its_score(tmp_path: Path) -> None:
    ended_run(tmp_path, ended="stop_request", metrics={"val_mse": 0.5})
    assert read_outcome(tmp_path).status is Status.OK
    (tmp_path / "metrics.json").unlink()
    assert read_outcome(tmp_path).status is Status.STOPPED


def test_the_last_line_of_the_log_explains_a_silent_crash(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("Traceback:\n\x1b[31mValueError: bad\x1b[0m\n\n")
    outcome = read_outcome(ended_run(tmp_path, returncode=1))
    assert outcome.cause == "exit code 1: ValueError: bad"


def test_a_cause_is_one_short_printable_line(tmp_path: Path) -> None:
    message = "a\x1b]0;title\x07\nb\0\u202e" + "c" * 5000
    outcome = read_outcome(ended_run(tmp_path, error={"kind": "crash", "message": message}, returncode=1))
    assert outcome.cause is not None
    assert outcome.cause.startswith("a bccc")
    assert outcome.cause.isprintable()
    assert len(outcome.cause) == 200


@pytest.mark.parametrize(
    "error", ["", "[1]", "{", '{"kind": []}', '{"kind": "oom_gpu", "message": {}}', NESTED]
)
def test_a_damaged_error_file_is_no_second_error(tmp_path: Path, error: str) -> None:
    outcome = read_outcome(ended_run(tmp_path, error=error, returncode=3))
    assert outcome.status is Status.DIVERGED


def test_nothing_started_or_nothing_left_is_missing(tmp_path: Path) -> None:
    assert read_outcome(tmp_path).status is Status.MISSING
    gone = read_outcome(tmp_path / "run_0001")
    assert (gone.status, gone.cause, gone.attempt) == (Status.MISSING, "its folder is gone", 0)


def process_record(attempt: int) -> dict[str, Any]:
    return {"schema": 1, "attempt": attempt, "supervisor": identify(os.getpid())._asdict()}


def test_begun_without_an_end_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "proc.json", process_record(2))
    write(tmp_path / "history.json", {"epochs": [{"epoch": 7}]})
    write(tmp_path / "metrics.json", {"val_mse": 0.1})
    outcome = read_outcome(tmp_path)
    assert (outcome.status, outcome.attempt, outcome.epoch) == (Status.LOST, 2, 7)


def test_the_end_of_an_earlier_attempt_says_nothing_about_the_latest(tmp_path: Path) -> None:
    ended_run(tmp_path, metrics={"val_mse": 0.1})
    write(tmp_path / "proc.json", process_record(2))
    assert (read_outcome(tmp_path).status, read_outcome(tmp_path).attempt) == (Status.LOST, 2)
    write(tmp_path / "proc.json", process_record(1))
    assert read_outcome(tmp_path).status is Status.OK


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"attempt": "1"}', '{"attempt": true}', "\0" * 9, NESTED]
)
def test_a_damaged_exit_record_is_lost(tmp_path: Path, content: str) -> None:
    write(tmp_path / "proc.json", process_record(1))
    write(tmp_path / "exit.json", content)
    outcome = read_outcome(tmp_path)
    assert (outcome.status, outcome.attempt) == (Status.LOST, 1)
    assert "exit.json is damaged" in (outcome.cause or "")


@pytest.mark.parametrize(
    "fields", [{"ended": [], "returncode": 0}, {"ended": "exited", "returncode": "0"}, {"wall_s": "x"}]
)
def test_foreign_values_in_an_exit_record_are_never_a_success_nor_a_crash_of_ours(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    write(tmp_path / "exit.json", {"attempt": 1, **fields})
    write(tmp_path / "metrics.json", {"val_mse": 0.1})
    assert read_outcome(tmp_path).status is Status.FAILED


def test_the_record_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="schema 2"):
        read_outcome(ended_run(tmp_path, schema=2, metrics={"val_mse": 0.1}))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EFBIG])
@pytest.mark.fault(11)
def test_what_the_machine_refuses_to_anybody_is_not_the_fault_of_the_configuration(
    number: int, tmp_path: Path
) -> None:
    text = f"[Errno {number}] {os.strerror(number)}"
    error = {"kind": "crash", "message": text, "errno": number}
    raised = read_outcome(ended_run(tmp_path, error=error, returncode=1))
    unstarted = {"ended": "cannot_start", "returncode": None, "message": text, "errno": number}
    never_began = read_outcome(ended_run(tmp_path, **unstarted))
    advice = advice_on_limit(number)
    assert advice is not None
    for outcome in (raised, never_began):
        assert outcome.status is Status.LOST
        assert outcome.came_from_outside, "tried once more"
        assert advice in (outcome.cause or "")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, -1, True, "24", 24.0, None, [24], 10**30])
def test_any_other_error_number_is_the_trainings_own(number: object, tmp_path: Path) -> None:
    error = {"kind": "crash", "message": "it broke", "errno": number}
    assert read_outcome(ended_run(tmp_path, error=error, returncode=1)).status is Status.FAILED
    unstarted = {"ended": "cannot_start", "returncode": None, "message": "no such program", "errno": number}
    outcome = read_outcome(ended_run(tmp_path, **unstarted))
    assert (outcome.status, outcome.came_from_outside) == (Status.FAILED, False)
    assert outcome.cause == "cannot start the training: no such program"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"ended": "disk_limit", "peak_disk_mb": 5120.4},
            "its files took 5,120 MiB, more than the limit; lower",
        ),
        ({"ended": "disk_limit", "peak_disk_mb": "x"}, "its files took more MiB than the limit; lower"),
        ({"ended": "disk_limit"}, "or raise --disk-per-run"),
        ({"ended": "process_limit"}, "more processes than a run may have"),
    ],
)
def test_a_training_over_its_quota_has_failed(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    run = ended_run(tmp_path, metrics={"val_mse": 0.1}, returncode=None, signal=9, **fields)
    outcome = read_outcome(run)
    assert (outcome.status, outcome.came_from_outside) == (Status.FAILED, False)
    assert words in (outcome.cause or "")


@pytest.mark.parametrize(
    ("uncopied", "status", "words"),
    [
        (
            {"best_model.pth": "[Errno 28] No space left on device"},
            Status.DISK_FULL,
            "best_model.pth was not",
        ),
        ({"metrics.json": "is a link"}, Status.BAD_RESULT, "metrics.json was not kept: is a link"),
        ({"best_model.pth": "is not a file", "a.png": "x"}, Status.BAD_RESULT, "is not a file"),
        ({"metrics.json": ["No space left"]}, Status.BAD_RESULT, "the reason is not on record"),
        ({"metrics.json": "\x1b[31mred\n" + "x" * 10_000}, Status.BAD_RESULT, "not kept: red xxx"),
        ({"attention.png": "is a link"}, Status.OK, ""),
        ({}, Status.OK, ""),
        ("metrics.json", Status.OK, ""),
        (["metrics.json"], Status.OK, ""),
        (None, Status.OK, ""),
    ],
)
def test_a_result_that_could_not_be_copied_out_is_none(
    uncopied: object, status: Status, words: str, tmp_path: Path
) -> None:
    outcome = read_outcome(ended_run(tmp_path, metrics={"val_mse": 0.1}, uncopied=uncopied))
    assert outcome.status is status
    assert words in (outcome.cause or "")
    assert len(outcome.cause or "") <= 200


@pytest.mark.parametrize(
    ("sandbox", "not_held"),
    [
        ({"held": ["files"], "open": {"network": "no Landlock 4"}}, {"network": "no Landlock 4"}),
        ({"open": {"a\x1b[2J\nb": 7}}, {"a b": "the reason is not on record"}),
        ({"held": [], "open": {}}, {}),
        ({"open": ["network"]}, {}),
        ("everything", {}),
        ([], {}),
    ],
)
def test_what_the_sandbox_does_not_hold_is_named(
    sandbox: object, not_held: dict[str, str], tmp_path: Path
) -> None:
    run = ended_run(tmp_path, metrics={"val_mse": 0.1}, confinement="landlock 3", sandbox=sandbox)
    outcome = read_outcome(run)
    assert (outcome.sandbox, outcome.not_held) == ("landlock 3", not_held)


def test_numbers_of_any_size_in_a_record_are_bounded(tmp_path: Path) -> None:
    huge = 10**4000
    error = {"kind": "crash", "message": "m", "epoch": huge, "step": huge, **{f"n{i}": i for i in range(999)}}
    ended_run(tmp_path, error=error, returncode=huge, wall_s=huge, peak_memory_mb=1e308, ended="disk_limit")
    outcome = read_outcome(tmp_path)
    assert outcome.status is Status.FAILED
    assert (outcome.epoch, outcome.step, outcome.returncode, outcome.wall_s) == (None,) * 4
    assert len(outcome.numbers) <= 20
    assert len(outcome.cause_and_numbers or "") <= 200


def test_a_run_that_still_trains_has_no_outcome(tmp_path: Path) -> None:
    write(tmp_path / "proc.json", process_record(1))
    with held_lock(tmp_path):
        assert is_alive(tmp_path)
        with pytest.raises(StateError, match="still training"):
            read_outcome(tmp_path)
    assert not is_alive(tmp_path)
    assert read_outcome(tmp_path).status is Status.LOST


def test_an_end_on_record_counts_although_the_supervisor_is_still_leaving(tmp_path: Path) -> None:
    ended_run(tmp_path, metrics={"val_mse": 0.1})
    with held_lock(tmp_path):
        assert read_outcome(tmp_path).status is Status.OK


def test_a_lock_that_cannot_be_read_is_told_in_our_own_words(tmp_path: Path) -> None:
    loop = tmp_path / "run_0000"
    loop.symlink_to(loop)
    with pytest.raises(NasError, match="cannot tell whether"):
        is_alive(loop)


def test_a_link_in_the_place_of_a_lock_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "held").touch()
    (tmp_path / "run.lock").symlink_to(tmp_path / "held")
    with open(tmp_path / "held") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not is_alive(tmp_path)


def test_log_tail_is_plain_text(tmp_path: Path) -> None:
    lines = [
        b"first",
        b"\x1b[1;31mred\x1b[0m\x07",
        b"10%\r50%\r100%",
        b"\xff\xfe\0bin",
        b"",
        "зависло".encode(),
        b"x" * 9000,
    ]
    (tmp_path / "train.log").write_bytes(b"\n".join(lines))
    tail = log_tail(tmp_path, lines=5).split("\n")
    assert tail[:4] == ["red", "100%", "\ufffd\ufffdbin", "зависло"]
    assert tail[4].startswith("xxx")
    assert len(tail[4]) == 400
    assert log_tail(tmp_path, lines=1) == tail[4]


def test_log_tail_reads_the_end_of_a_large_log_only(tmp_path: Path) -> None:
    with open(tmp_path / "train.log", "wb") as file:
        file.truncate(2**33)
        file.seek(0, 2)
        file.write(b"\nthe end\n")
    assert log_tail(tmp_path, lines=1) == "the end"


def test_without_a_log_the_tail_is_empty(tmp_path: Path) -> None:
    assert log_tail(tmp_path) == ""
    assert log_tail(tmp_path / "gone") == ""
    os.mkfifo(tmp_path / "train.log")
    answer: list[str] = []
    reader = threading.Thread(target=lambda: answer.append(log_tail(tmp_path)), daemon=True)
    reader.start()
    reader.join(timeout=5)
    assert answer == [""], "a FIFO must not block the reader"


@pytest.mark.parametrize(
    "limits",
    [{"time_limit_s": 0}, {"time_limit_s": float("nan")}, {"time_limit_s": 1, "silence_limit_s": -1},
     {"time_limit_s": 1, "memory_limit_mb": 0}, {"time_limit_s": 1, "grace_s": float("inf")}],
)  # fmt: skip
def test_a_job_without_sensible_limits_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        Job(command=("true",), **limits)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a command"):
        Job(command=(), time_limit_s=1)
