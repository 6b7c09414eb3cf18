"""`benchmarks/cluster_scale.py`: a whole search on a scripted cluster, in simulated time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.cluster_scale import figures, search
from nas_system.processes.cluster_job import last_claim


def test_every_run_of_a_simulated_cluster_ends_well_and_trains_once(tmp_path: Path) -> None:
    found = search(tmp_path / "search", slots=8, seconds=600, runs=24)
    measured = figures(found)
    assert [run.status for run in found.state.runs] == ["OK"] * 24
    trained = Counter(job.folder for job in found.engine.finished)
    assert set(trained.values()) == {1}
    assert {last_claim(folder) for folder in trained} == {1}
    assert {f"run_{number:04d}" for number in range(24)} <= {folder.name for folder in trained}
    # Slots are filled although no more than two jobs may wait: nobody waits for an end before the next one.
    others = sorted(
        (job for job in found.engine.finished if job.config.seed == 42), key=lambda job: job.begins
    )
    assert others[8].begins < min(job.ends for job in others[1:9])
    assert all(0 < measured[share] <= 1 for share in ("busy", "busy_when_full"))
