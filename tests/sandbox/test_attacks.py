"""Every way out is tried by a real training: it leads nowhere in the sandbox, and out where there is none."""

from __future__ import annotations

import pytest
from attack_runs import BATCHES, Identity, identities, measure

from nas_system.processes.sandbox import landlock_version

needs_landlock = pytest.mark.skipif(landlock_version() < 6, reason="needs Linux 6.12 with Landlock")
everybody = pytest.mark.parametrize(
    ("identity", "batch"),
    [
        pytest.param(identity, batch, id=f"{identity.name}-{batch}")
        for identity in identities()
        for batch, ways in BATCHES.items()
        if any(identity.name in way.who for way in ways)
    ],
)


@needs_landlock
@everybody
def test_no_way_leads_out_of_the_sandbox(batch: str, identity: Identity) -> None:
    outcomes = measure(batch, identity, sandboxed=True)
    assert {name: outcome.error for name, outcome in outcomes.items() if outcome.open} == {}
    # Another error than that of the part which is to stop it: it was stopped by accident.
    assert {name: outcome.error for name, outcome in outcomes.items() if outcome.by is None} == {}


@everybody
def test_every_way_leads_out_where_the_sandbox_is_off(batch: str, identity: Identity) -> None:
    """Or the test above would prove nothing."""
    outcomes = measure(batch, identity, sandboxed=False)
    expected = {way.name for way in BATCHES[batch] if identity.name in way.off} & outcomes.keys()
    assert {name: outcomes[name].error for name in expected if not outcomes[name].open} == {}
