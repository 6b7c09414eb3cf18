"""What may happen to a search, and what is promised for it: the rows of the fault table.

A test proves rows by carrying `@pytest.mark.fault(1, 2)`, wherever it stands.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One promise."""

    fault: str
    promise: str


ROWS: dict[int, Row] = {
    1: Row("`kill -9` of the agent at any instant", "nothing said is lost, no finished training runs again"),
    2: Row(
        "the agent dies between plan, start and record of a training", "it is started once, by whoever comes"
    ),
    3: Row("the agent dies while a training runs", "its limits still hold; the next agent adopts it"),
    4: Row("`kill -9` of a supervisor or a training", "nothing of it lives on; the run is tried once more"),
    5: Row(
        "`agent_state.json` truncated, empty, NULs, not JSON",
        "set aside and rebuilt from `runs/`, said in one line",
    ),
    6: Row("truncated last line of a transcript", "cut back, kept next to it, the search goes on"),
    7: Row("damaged line inside a transcript", "skipped and counted; the rest is read"),
    8: Row("disk full while the state is written", "the old state is whole; the search waits for space"),
    9: Row("disk full while a checkpoint is written", "the best one before it stays; status DISK_FULL"),
    10: Row("the workspace cannot be written", "refused before anything starts, exit code 2"),
    11: Row("no file descriptors left", "a clear error; the state is whole"),
    12: Row("a second agent in the same workspace", "exits with 3 and names the holder"),
    13: Row("the lock's holder was killed", "no stale lock: the next agent starts at once"),
    14: Row("a run's folder deleted, edited or half copied", "the run is MISSING, the search goes on"),
    15: Row("a state of an older or newer program", "older: migrated; newer: refused and left untouched"),
    16: Row("a training raises", "FAILED with its cause; the search goes on"),
    17: Row("a training crashes in native code", "KILLED with the signal's name"),
    18: Row("host memory runs out", "OOM_HOST with the peak; the same configuration is not tried again"),
    19: Row("GPU memory runs out", "OOM_GPU with the peak and a hint"),
    20: Row("a training hangs", "HUNG after a silence, with the stack in its log"),
    21: Row("a training over its time ignores SIGTERM", "TIMEOUT; the whole tree is dead after the grace"),
    22: Row("a daemonised grandchild stays", "found by a cookie and ended"),
    23: Row("a flood of output, binary, without newlines", "capped on disk, last lines kept, no deadlock"),
    24: Row("loss becomes NaN or infinite", "DIVERGED, stopped early, never the best"),
    25: Row("`metrics.json` empty, truncated, NaN, negative", "BAD_RESULT; other runs are not affected"),
    26: Row("exit 0 without metrics, exit 1 with metrics", "no score without both"),
    27: Row("pid reused, reboot", "never signalled: boot id and start time must agree"),
    28: Row("the wall clock jumps", "limits and durations come from the monotonic clock"),
    29: Row(
        "Ctrl-C once or twice, SIGTERM, SIGHUP", "graceful, or at once; state whole, exit code 130, 143, 129"
    ),
    30: Row(
        "an answer that is not JSON, fenced, truncated",
        "read if it can be; else asked again, then the sampler",
    ),
    31: Row(
        "unknown key, wrong type, out of range in an answer", "refused with the reason, nothing is trained"
    ),
    32: Row("a configuration proposed again", "recognised, not trained again"),
    33: Row("code in a proposed value", "a refusal or a harmless literal; never executed"),
    34: Row("the model's service: 429, 5xx, hang, garbage", "bounded retries, then fallback or pause"),
    35: Row("run, time or token budget reached", "a stop the model has no say in"),
    36: Row("instructions hidden in data or logs", "only typed fields change what is done"),
    37: Row("a key in the environment", "nowhere under the workspace"),
    38: Row("a training looks for a key", "not in its environment, not in its parent's `/proc`"),
    39: Row("`../` in a tag, a run folder that is a link", "refused; nothing outside the workspace"),
    40: Row("a checkpoint that is a pickle bomb, HTML, truncated", "refused with a reason; tensors only"),
    41: Row("a bit flips in `best_model.pth`", "the checksum does not match, and it says so"),
    42: Row("markup in an answer or a log", "escaped in every report; nothing is loaded from elsewhere"),
    45: Row("a download breaks off or is damaged", "no half file; the checksum decides"),
    48: Row("trainings share the GPUs of a cluster", "each sees the one that its job was given"),
    49: Row(
        "a cluster's node dies, a job is preempted or requeued",
        "the attempt is stopped or lost, another begins; never two at once",
    ),
    50: Row(
        "a training was started and its agent forgot it", "found by its folder and adopted, not started twice"
    ),
    51: Row("a node or a router raises", "the search ends with an error and a code, never silently"),
    52: Row("a long search", "every file of a run is read once or twice, to go on as to show it"),
    53: Row(
        "`kill -9` of an agent with several trainings at once",
        "each begins once, never more at once than allowed; the search replays equal",
    ),
    54: Row(
        "Ctrl-C with several trainings at once", "all end side by side, each goes on from its checkpoint"
    ),
    55: Row(
        "`agent_state.json` lost while several runs are in progress",
        "the order of the ends and the runs in progress come back, nothing trains twice",
    ),
    56: Row(
        "a GPU's memory runs out among trainings that share it", "tried once more alone; only then OOM_GPU"
    ),
    57: Row(
        "the model's service is down while trainings run",
        "these end and are evaluated; then the search pauses",
    ),
    58: Row(
        "the agent dies between the reason for an early stop and the stop",
        "the next agent stops the training",
    ),
    59: Row(
        "`kill -9` of supervisors and trainings with several at once",
        "nothing of them lives on, their runs are tried once more, the others go on",
    ),
    60: Row(
        "`kill -9` of the fork server",
        "trainings go on, the next ones begin without it, and no training is tried again",
    ),
    61: Row(
        "one of several trainings takes more memory than it may",
        "OOM_HOST for that run alone; the others end as they would",
    ),
    62: Row(
        "`kill -9` of a cluster's controller or head, or it does not answer",
        "how its jobs stand is unknown until it answers; what it has lost begins again, once",
    ),
    63: Row(
        "a cluster begins a job twice, or an answer to a submission is lost",
        "who does not make the attempt's claim leaves: one start",
    ),
    64: Row(
        "an agent on another host, whose file locks are its own",
        "exit code 3 while the first one renews its mark",
    ),
}
"""Numbers that are missing belong to parts that are not there yet: dashboard, generated code."""
