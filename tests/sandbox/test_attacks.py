"""Every way out is tried by a real training: it leads nowhere in the sandbox, and out where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from attack_cases import CASES, measure_case
from attack_faults import FAULTS, measure_fault
from attack_runs import BATCHES, Identity, Outcome, identities, measure, why_it_does_not_hold
from attacks.toolbox import WAYS

SLOW = ("fill_disk_with_names",)
_PROBLEM = why_it_does_not_hold()
needs_sandbox = pytest.mark.skipif(_PROBLEM is not None, reason=str(_PROBLEM))


def everybody(names: Iterable[str], who: Callable[[str, Identity], bool]) -> pytest.MarkDecorator:
    """Parametrize by a name and by those who can try it."""
    pairs = [(name, identity) for identity in identities() for name in names if who(name, identity)]
    return pytest.mark.parametrize(
        ("name", "identity"),
        [
            pytest.param(
                name,
                identity,
                id=f"{name}-{identity.name}",
                marks=[pytest.mark.slow] if name in SLOW else [],
            )
            for name, identity in pairs
        ],
    )


every_batch = everybody(
    BATCHES, lambda batch, identity: any(identity.name in way.who for way in BATCHES[batch])
)


@needs_sandbox
@every_batch
def test_no_way_leads_out_of_the_sandbox(name: str, identity: Identity) -> None:
    outcomes = measure(name, identity, sandboxed=True)
    assert {way: outcome.error for way, outcome in outcomes.items() if outcome.open} == {}
    # Another error than that of the part which is to stop it: it was stopped by accident.
    assert {way: outcome.error for way, outcome in outcomes.items() if outcome.by is None} == {}


@needs_sandbox
@every_batch
def test_no_way_leads_out_of_a_forked_training(name: str, identity: Identity) -> None:
    outcomes = measure(name, identity, sandboxed=True, forked=True)
    assert {way: outcome.error for way, outcome in outcomes.items() if outcome.open} == {}
    assert {way: outcome.error for way, outcome in outcomes.items() if outcome.by is None} == {}


@every_batch
def test_every_way_leads_out_where_the_sandbox_is_off(name: str, identity: Identity) -> None:
    """Or the test above would prove nothing."""
    outcomes = measure(name, identity, sandboxed=False)
    assert_open(outcomes, name, identity)


@every_batch
def test_every_way_leads_out_of_a_forked_training_where_the_sandbox_is_off(
    name: str, identity: Identity
) -> None:
    assert_open(measure(name, identity, sandboxed=False, forked=True), name, identity)


def assert_open(outcomes: dict[str, Outcome], name: str, identity: Identity) -> None:
    expected = {way.name for way in BATCHES[name] if identity.name in way.off} & outcomes.keys()
    assert {way: outcomes[way].error for way in expected if not outcomes[way].open} == {}


@needs_sandbox
@everybody(CASES, lambda case, identity: identity.name in WAYS[case].who)
def test_supervisor_and_limits_hold(name: str, identity: Identity) -> None:
    outcome = measure_case(name, identity, sandboxed=True)
    assert not outcome.open, outcome.error
    assert outcome.by is not None, f"stopped by accident: {outcome.error}"


@everybody(CASES, lambda case, identity: identity.name in WAYS[case].off)
def test_an_attack_on_the_supervisor_succeeds_where_the_sandbox_is_off(name: str, identity: Identity) -> None:
    outcome = measure_case(name, identity, sandboxed=False)
    assert outcome.open, outcome.error


@needs_sandbox
@everybody(FAULTS, lambda fault, identity: True)
def test_the_sandbox_holds_or_refuses_in_any_environment(name: str, identity: Identity) -> None:
    outcome = measure_fault(name, identity)
    assert not outcome.open, outcome.error
