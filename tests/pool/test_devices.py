"""Leases of CUDA devices and of shares of them; no GPU is needed to count them."""

from __future__ import annotations

from collections import Counter

import pytest
from builders import drive
from simulated import Killed, MortalClock, Scripted, SimulatedClock, SimulatedLauncher

from nas_agent_graph.cli import COMMANDS
from nas_agent_graph.pool.slots import SEQUENTIAL, Slots, slots_for
from nas_agent_graph.search_setup import limits_of, train_command_of
from nas_system.errors import ConfigError
from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.nas_agent.ledger import Ledger
from nas_system.processes.machine_cores import usable_cores


def leases(launcher: SimulatedLauncher) -> list[Counter[str | None]]:
    """Return how many trainings had each device, after every start."""
    device = {name: launcher.device_of(name, attempt) for name, attempt in launcher.jobs}
    return [Counter(device[name] for name in names) for names in launcher.at_once]


@pytest.mark.parametrize("devices", [("0", "1"), ("GPU-aa-1", "MIG-bb-2")])
def test_each_training_has_a_device_of_its_own(search, devices) -> None:
    clock = SimulatedClock()
    launcher = SimulatedLauncher(clock, devices=devices)
    launcher.script = lambda name, attempt, config: Scripted(1 + int(name[-1]) % 3)
    slots = slots_for("auto", 1.0, "auto", launcher)
    assert slots == Slots(2, devices)
    drive(search(slots=slots, launcher=launcher, clock=clock, max_runs=7))
    assert launcher.most_at_once == 2
    assert all(set(counts.values()) == {1} for counts in leases(launcher))
    assert {launcher.device_of(name) for name, _ in launcher.submitted} == set(devices)
    assert not any("--gpu-share" in launcher.flags_of(name) for name, _ in launcher.submitted)


def test_half_a_device_holds_two_trainings_and_never_three_also_after_kills(search) -> None:
    clock = MortalClock(dies_at=[1.5, 3.5, 5.5])
    launcher = SimulatedLauncher(clock, devices=("0", "1"))
    launcher.script = lambda name, attempt, config: Scripted(1 + int(name[-1]) % 3)
    slots = slots_for("auto", 0.5, "auto", launcher)
    assert slots.total == 4
    for _ in range(3):
        with pytest.raises(Killed):
            drive(search(slots=slots, launcher=launcher, clock=clock, max_runs=16))
    drive(search(slots=slots, launcher=launcher, clock=clock, max_runs=16))
    assert launcher.most_at_once == 4
    assert max(max(counts.values()) for counts in leases(launcher)) == 2
    assert len(launcher.submitted) == len(set(launcher.submitted)) == 16
    flags = launcher.flags_of("run_0003")
    assert flags[flags.index("--gpu-share") + 1] == "0.5"


def test_a_lease_survives_the_loss_of_the_state(search) -> None:
    clock = MortalClock(dies_at=[1.5])
    launcher = SimulatedLauncher(clock, lambda name, attempt, config: Scripted(1), devices=("0", "1"))
    slots = slots_for("auto", 1.0, "auto", launcher)
    context = search(slots=slots, launcher=launcher, clock=clock)
    with pytest.raises(Killed):
        drive(context)
    path = context.ledger.workspace / "agent_state.json"
    before = load_agent_state(path)
    assert {run.device for run in before.in_progress} == {"0", "1"}
    path.unlink()
    ledger, note = Ledger.open(context.ledger.workspace)
    assert note is not None and "rebuilt" in note
    leased = [(run.run_id, run.device) for run in ledger.state.in_progress]
    assert leased == [(run.run_id, run.device) for run in before.in_progress]


def test_a_run_whose_device_is_gone_gets_another_one_when_there_is_room(search) -> None:
    clock = MortalClock(dies_at=[1.5])
    launcher = SimulatedLauncher(clock, lambda name, attempt, config: Scripted(1), devices=("0", "1"))
    with pytest.raises(Killed):
        drive(search(slots=Slots(2, ("0", "1")), launcher=launcher, clock=clock))
    for run_dir in list(launcher.running):
        launcher.cancel(run_dir)  # the machine was restarted, with one card less
    drive(search(slots=Slots(1, ("1",)), launcher=launcher, clock=clock, max_runs=4))
    assert {launcher.device_of(name, 2) for name in ("run_0001", "run_0002")} == {"1"}
    assert all(len(names) == 1 for names in launcher.at_once[3:])


def test_with_larger_shares_than_before_each_device_still_holds_one(search) -> None:
    clock = MortalClock(dies_at=[1.5])
    launcher = SimulatedLauncher(clock, lambda name, attempt, config: Scripted(1), devices=("0", "1"))
    with pytest.raises(Killed):
        drive(search(slots=Slots(4, ("0", "1"), 0.5), launcher=launcher, clock=clock))
    assert len(launcher.running) == 4
    for run_dir in list(launcher.running):
        launcher.cancel(run_dir)
    drive(search(slots=Slots(2, ("0", "1")), launcher=launcher, clock=clock, max_runs=6))
    second = launcher.at_once[5:]
    device = {name: launcher.device_of(name, attempt) for name, attempt in launcher.jobs}
    assert all(len({device[name] for name in names}) == len(names) <= 2 for names in second)


def crowded(out_of_memory: set[tuple[str, int]]):
    def script(name: str, attempt: int, config: object) -> Scripted:
        error = "oom_gpu" if (name, attempt) in out_of_memory else None
        return Scripted(2 if error else 3, error=error)

    return script


@pytest.mark.fault(56)
def test_who_runs_out_of_a_shared_devices_memory_is_tried_once_more_alone(search) -> None:
    clock = SimulatedClock()
    launcher = SimulatedLauncher(clock, crowded({("run_0001", 1), ("run_0001", 2), ("run_0002", 1)}))
    context = search(slots=Slots(2, ("0",), 0.5), launcher=launcher, clock=clock, max_runs=5)
    drive(context)
    status = {run.run_id: (run.status, run.attempt) for run in context.ledger.state.runs}
    assert status["run_0001"] == ("OOM_GPU", 2) and status["run_0002"] == ("OK", 2)
    assert {status[f"run_000{number}"] for number in (0, 3, 4)} == {("OK", 1)}
    second = [
        names
        for (_, attempt), names in zip(launcher.submitted, launcher.at_once, strict=True)
        if attempt == 2
    ]
    assert [len(names) for names in second] == [1, 1], "alone on the device"
    assert "--gpu-share" not in launcher.flags_of("run_0001", 2)
    assert "--gpu-share" in launcher.flags_of("run_0001", 1)


@pytest.mark.fault(56)
def test_an_agent_that_is_killed_meanwhile_tries_it_alone_all_the_same(search) -> None:
    clock = MortalClock(dies_at=[5.5])
    launcher = SimulatedLauncher(clock, crowded({("run_0001", 1)}))
    slots = Slots(2, ("0",), 0.5)
    with pytest.raises(Killed):
        drive(search(slots=slots, launcher=launcher, clock=clock, max_runs=4))
    context = search(slots=slots, launcher=launcher, clock=clock, max_runs=4)
    drive(context)
    assert {run.status for run in context.ledger.state.runs} == {"OK"}
    assert launcher.submitted.count(("run_0001", 2)) == 1


def test_a_whole_device_is_not_enough_twice(search) -> None:
    clock = SimulatedClock()
    launcher = SimulatedLauncher(clock, crowded({("run_0001", 1)}))
    context = search(slots=Slots(1, ("0",)), launcher=launcher, clock=clock, max_runs=2)
    drive(context)
    assert [(run.status, run.attempt) for run in context.ledger.state.runs] == [("OK", 1), ("OOM_GPU", 1)]


def test_the_first_run_alone_on_its_device_repeats_one_after_the_other(search) -> None:
    clock = SimulatedClock()
    launcher = SimulatedLauncher(clock, crowded({("run_0000", 1)}))
    drive(search(slots=Slots(4, ("0", "1"), 0.5), launcher=launcher, clock=clock, max_runs=1, repeat_base=2))
    assert [len(names) for names in launcher.at_once] == [1, 1, 1, 1]
    packed = SimulatedLauncher(SimulatedClock())
    slots = Slots(4, ("0", "1"), 0.5)
    parts = {"launcher": packed, "clock": packed.clock, "folder": "packed"}
    drive(search(slots=slots, max_runs=1, repeat_base=3, **parts))
    assert packed.most_at_once == 2, "the repeats have the first run's device"


@pytest.mark.parametrize(
    ("parallel", "share", "devices", "words"),
    [
        (5, 0.5, ("0", "1"), "2 GPUs hold 4 trainings of 0.5 GPUs each"),
        (3, 1.0, ("0", "1"), "2 GPUs hold 2 trainings of 1 GPUs each"),
        (2, 0.5, (), "--gpus-per-run: trainings find no GPU here"),
    ],
)
def test_more_than_the_devices_hold_is_refused(parallel, share, devices, words) -> None:
    launcher = SimulatedLauncher(SimulatedClock(), devices=devices)
    with pytest.raises(ConfigError, match=words):
        slots_for(parallel, share, "auto", launcher)


@pytest.mark.parametrize(("parallel", "devices"), [(5, 2), (6, 1), (7, 3), (9, 2), (64, 8)])
def test_the_share_that_a_refusal_names_is_small_enough(parallel: int, devices: int) -> None:
    launcher = SimulatedLauncher(SimulatedClock(), devices=tuple(map(str, range(devices))))
    with pytest.raises(ConfigError) as refused:
        slots_for(parallel, 1.0, "auto", launcher)
    share = float(str(refused.value).rpartition(" ")[2])
    assert slots_for(parallel, share, "auto", launcher).capacity >= parallel


def test_without_a_device_the_cores_are_the_slots() -> None:
    launcher = SimulatedLauncher(SimulatedClock(), devices=("0",))
    assert slots_for("auto", 1.0, "cpu", launcher) == Slots(8)
    assert slots_for(1, 1.0, "cpu", launcher) == SEQUENTIAL
    assert slots_for("auto", 0.25, "auto", launcher) == Slots(4, ("0",), 0.25)


@pytest.mark.parametrize(
    ("text", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("x", None)]
)
def test_a_control_groups_share_of_the_cores_counts(tmp_path, text: str, cores: int | None) -> None:
    path = tmp_path / "cpu.max"
    without_limit = usable_cores(path)
    path.write_text(text)
    assert usable_cores(path) == (cores or without_limit)


@pytest.mark.parametrize(
    ("flags", "threads"), [((), None), (("--threads", "auto"), "2"), (("--threads", "3"), "3")]
)
def test_trainings_at_once_share_memory_and_cores(tmp_path, flags, threads) -> None:
    class Large(SimulatedLauncher):
        def memory_limit_mb(self):
            return 4001

    launcher = Large(SimulatedClock())
    arguments = COMMANDS["run"].parser("nas run").parse_args(["--parallel", "4", "--device", "cpu", *flags])
    slots = slots_for(arguments.parallel, arguments.gpus_per_run, arguments.device, launcher)
    assert limits_of(arguments, launcher, slots.total).memory_mb == 1000
    command = train_command_of(arguments, tmp_path, launcher, slots)
    found = command[command.index("--threads") + 1] if "--threads" in command else None
    assert found == threads
