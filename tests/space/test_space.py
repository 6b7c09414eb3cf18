"""The search space: one definition, and errors that a proposer can act on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_system.errors import ProposalError
from nas_system.space import (
    FAMILIES,
    Change,
    RunConfig,
    TaskConfig,
    active_values,
    apply_changes,
    canonical_key,
    changes_between,
    family_default,
    parameters,
)


def change(parameter, value):
    return Change(parameter=parameter, value=value)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_default_that_serves_the_default_task(family):
    config = family_default(family)
    assert config.model.family == family
    assert TaskConfig().name in FAMILIES[family].tasks


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_sentence_and_a_default_inside_its_domain(family):
    for parameter in parameters(family):
        assert len(parameter.description) > 15, parameter.path
        if parameter.kind == "choice":
            assert parameter.default in parameter.choices
        elif parameter.default is not None:
            assert parameter.low <= parameter.default <= parameter.high
        if parameter.choices and parameter.kind != "choice":
            assert list(parameter.choices) == sorted(parameter.choices)
            assert parameter.low <= parameter.choices[0]
            assert parameter.choices[-1] <= parameter.high


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([change("model.n_heads", 5)], "not divisible by model.n_heads=5"),
        ([change("model.d_modl", 64)], "did you mean model.d_model?"),
        ([change("model.d_model", True)], "valid integer"),
        ([change("model.d_model", "64")], "valid integer"),
        ([change("model.d_model", 10**9)], "8 .. 1024"),
        ([change("training.lr", float("nan"))], "finite"),
        ([change("training.lr", 0)], "1e-05"),
        ([change("training.momentum", 0.5)], "it needs training.optimizer = 'sgd'"),
        ([change("model.label_len", 700)], "longer than data.seq_len"),
        ([change("model.family", "mamba")], "choose from: informer, linear"),
        ([change("model.family", ["informer"])], "choose from: informer, linear"),
        ([change("task.pred_len", 1)], "fixed for this search"),
        ([change("seed", 1)], "fixed for this search"),
        ([change("training.lr", 0.01), change("training.lr", 0.02)], "changed twice"),
        (
            [change("model.family", "linear"), change("model.d_model", 64)],
            "not a parameter of the family linear",
        ),
        ([change("data.features", "M")], "'S' or 'MS'"),
        ([change("__class__.x", 1)], "not a parameter"),
    ],
)
def test_a_bad_change_is_refused_with_a_reason_to_act_on(changes, expected):
    with pytest.raises(ProposalError) as refusal:
        apply_changes(RunConfig(), changes)
    assert expected in str(refusal.value)


def test_all_problems_of_a_proposal_are_named_at_once():
    with pytest.raises(ProposalError) as refusal:
        apply_changes(RunConfig(), [change("model.x", 1), change("training.y", 2)])
    assert "model.x" in str(refusal.value) and "training.y" in str(refusal.value)


def test_changing_the_family_starts_from_its_default_and_keeps_task_and_seed():
    parent = RunConfig(task=TaskConfig(pred_len=96), seed=7)
    config = apply_changes(parent, [change("model.family", "linear"), change("training.lr", 0.02)])
    assert config.task.pred_len == 96
    assert config.seed == 7
    assert config.data == family_default("linear").data
    assert config.training.lr == 0.02


def test_inactive_parameters_do_not_count_in_the_canonical_key():
    config = RunConfig()
    other = config.model_copy(update={"training": config.training.model_copy(update={"gamma": 0.9})})
    assert "training.gamma" not in active_values(config)
    assert canonical_key(config) == canonical_key(other)


def test_inputs_that_a_family_does_not_read_do_not_make_another_training():
    config = family_default("linear")
    wider = config.model_copy(update={"data": config.data.model_copy(update={"features": "MS"})})
    assert canonical_key(config) == canonical_key(wider)
    assert "data.features" in active_values(RunConfig())


def test_spellings_of_one_training_share_a_key_and_different_trainings_do_not():
    config = RunConfig()
    spelled = config.training.model_copy(update={"t_max": config.training.max_epochs})
    assert canonical_key(config) == canonical_key(config.model_copy(update={"training": spelled}))
    assert canonical_key(config) == canonical_key(config.model_copy(update={"seed": 1}))
    faster = config.training.model_copy(update={"lr": 0.0011})
    assert canonical_key(config) != canonical_key(config.model_copy(update={"training": faster}))


def values_of(parameter):
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if parameter.kind == "int":
        return st.integers(int(parameter.low), int(parameter.high))
    return st.floats(parameter.low, parameter.high)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changes_between_two_configurations_lead_from_one_to_the_other(data):
    def draw(parent):
        family = data.draw(st.sampled_from(sorted(FAMILIES)))
        config = apply_changes(parent, [change("model.family", family)])
        for parameter in parameters(family):
            if data.draw(st.booleans()):
                try:
                    config = apply_changes(config, [change(parameter.path, data.draw(values_of(parameter)))])
                except ProposalError:
                    continue
        return config

    first, second = draw(RunConfig()), draw(RunConfig())
    assert canonical_key(apply_changes(first, changes_between(first, second))) == canonical_key(second)
