"""What happens to one of several trainings is that one's affair."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from chaos.search import Search

HUNGRY = "run_0002"


@pytest.mark.fault(61)
def test_one_training_out_of_memory_leaves_the_others_alone(
    new_search: Callable[..., Search], record_property: Callable[[str, object], None]
) -> None:
    search = new_search("--max-runs", "6", "--parallel", "3", "--memory-per-run", "0.1")
    search.wish("epoch_s", "0.5")
    search.wish("hungry", HUNGRY)
    search.start()
    assert search.wait() == 0, search.text()
    ended = {run.run_id: run for run in search.last.runs}
    assert len(ended) == 6
    assert ended[HUNGRY].status == "OOM_HOST"
    assert "MiB, more than the limit" in (ended[HUNGRY].cause or "")
    others = [run for name, run in ended.items() if name != HUNGRY]
    assert {(run.status, run.attempt) for run in others} == {("OK", 1)}
    # What was killed has not said that it ended.
    assert search.most_at_once() > 2
    ledger = (search.evidence / "ledger").read_text()
    assert all(ledger.count(f"{run_id} start") == 1 for run_id in ended), "nothing trains twice"
    record_property("measured", "one of 3 trainings at a time over its limit: 1 OOM_HOST, 5 OK")
