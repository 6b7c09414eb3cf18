"""A stand-in for a training: reads a config, takes a fraction of a second, leaves what a training leaves.

    python -S training.py EVIDENCE --config FILE --runs-dir DIR --tag TAG --output-dir DIR --resume

Standard library only, so that it starts at once. What it does is written down in the folder EVIDENCE,
outside the workspace: one line per event, and one kernel lock per run that a second process could not get.
What a test wants of it lies there, too: `epoch_s` holds the seconds of an epoch, `deaf` makes it
ignore SIGTERM, `hungry` names the run that takes more and more memory.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
import time

EPOCHS = 4


def main(evidence: str, *arguments: str) -> None:
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))
    run_dir, work = os.path.join(given["--runs-dir"], given["--tag"]), given["--output-dir"]
    # A repeat of the base config lies inside the base config's folder; its path names it.
    name = run_dir[run_dir.rindex("/runs/") + len("/runs/") :].replace("/", ".")
    lock = os.open(os.path.join(evidence, f"{name}.lock"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(evidence, name, "overlap")
        sys.exit("another process trains this run")
    if os.path.exists(os.path.join(evidence, "deaf")):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(evidence, name, "start")
    with contextlib.suppress(FileNotFoundError), open(os.path.join(evidence, "hungry")) as file:
        eaten = []
        while file.read() == name:
            file.seek(0)
            eaten.append(b"x" * 2**24)
            time.sleep(0.02)
    with open(given["--config"], "rb") as file:
        digest = hashlib.sha256(file.read()).digest()
    # Same configuration, same score and same duration, like a good training.
    score, epoch_s = 0.01 + digest[0] / 2560, 0.01 + 0.04 * digest[1] / 256
    with contextlib.suppress(FileNotFoundError), open(os.path.join(evidence, "epoch_s")) as file:
        epoch_s = float(file.read())
    epochs = []
    for epoch in range(EPOCHS):
        time.sleep(epoch_s)
        train_mse, val_mse = score * 2, score + 0.1 * (EPOCHS - 1 - epoch)
        epochs.append({"epoch": epoch, "train_mse": train_mse, "val_mse": val_mse, "lr": 0.001})
        history = {"best_epoch": epoch, "planned_epochs": EPOCHS, "epochs": epochs}
        write(work, "history.json", history)
        print(f"epoch {epoch + 1}/{EPOCHS}", flush=True)
    result = {"val_mse": score, "test_mse": 2 * score, "best_epoch": EPOCHS - 1, "reason": "completed"}
    write(work, "metrics.json", result)
    note(evidence, name, "end")


def write(folder: str, name: str, value: object) -> None:
    path = os.path.join(folder, name)
    with open(f"{path}.tmp", "w") as file:
        json.dump(value, file)
    os.replace(f"{path}.tmp", path)


def note(evidence: str, name: str, event: str) -> None:
    line = f"{name} {event} {os.getpid()} {time.monotonic()}\n"
    descriptor = os.open(os.path.join(evidence, "ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    # One write of one short line: the kernel keeps lines of several processes apart.
    os.write(descriptor, line.encode())
    os.close(descriptor)


if __name__ == "__main__":
    main(*sys.argv[1:])
