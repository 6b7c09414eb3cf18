"""The search space: one definition, and errors that a proposer can act on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_system.errors import ProposalError
from nas_system.space import (
    FAMILIES,
    TASKS,
    Change,
    ForecastingTask,
    GraphRegressionTask,
    RunConfig,
    active_values,
    apply_changes,
    canonical_key,
    changes_between,
    families_of,
    family_default,
    is_active,
    parameters,
    value_at,
)
from nas_system.space.overview import overview, tried_values

KINDS = tuple(task.kind for task in TASKS)


def change(parameter, value):
    return Change(parameter=parameter, value=value)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_default_with_a_task_that_it_serves(family):
    config = family_default(family)
    assert config.model.family == family
    assert family in families_of(config.task.kind)
    assert {kind for kind in KINDS if family in families_of(kind)} == set(FAMILIES[family].tasks)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_sentence_and_a_default_inside_its_domain(family):
    for parameter in parameters(family):
        assert len(parameter.description) > 10 and parameter.description.endswith("."), parameter.path
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
        ([change("learning_rate", 0.01)], "did you mean training.lr?"),
        ([change("training.learning_rate", 0.01)], "did you mean training.lr?"),
        ([change("model.Learning-Rate", 0.01)], "did you mean training.lr?"),
        ([change("lr", 0.01)], "did you mean training.lr?"),
        ([change("model.hidden_size", 64)], "did you mean model.d_model?"),
        ([change("lookback", 96)], "did you mean data.seq_len?"),
        ([change("architecture", "lstm")], "did you mean model.family?"),
        ([change("weight_decy", 0.1)], "did you mean training.weight_decay?"),
        ([change("qqqqqqqqqq", 0.1)], "; there are: model.normalization"),
        ([change("model.d_model", True)], "valid integer"),
        ([change("model.d_model", "64")], "valid integer"),
        ([change("model.d_model", 10**9)], "8 .. 1024"),
        ([change("training.lr", float("nan"))], "finite"),
        ([change("training.lr", 0)], "1e-05"),
        ([change("training.momentum", 0.5)], 'it needs training.optimizer = "sgd" (it is "adam")'),
        ([change("training.augmentation_strength", 0.5)], 'it needs training.augmentation != "none"'),
        (
            [change("model.family", "linear"), change("data.features", "MS")],
            "data.features has no effect here: the family linear reads the targets alone",
        ),
        (
            [change("model.family", "linear"), change("model.individual", True)],
            "model.individual has no effect here: only one column is forecast",
        ),
        ([change("model.label_len", 700)], "longer than data.seq_len"),
        ([change("model.family", "mamba")], "choose from: informer, ridge"),
        ([change("model.family", ["informer"])], "choose from: informer, ridge"),
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


def test_channel_independence_makes_the_choice_of_inputs_pointless():
    parent = RunConfig(task=ForecastingTask(targets=("OT", "HUFL")))
    changes = [change("model.family", "lstm"), change("model.channel_independence", True)]
    apply_changes(parent, changes)
    with pytest.raises(ProposalError, match="every target is forecast from its own past alone"):
        apply_changes(parent, [*changes, change("data.features", "S")])


def test_a_look_back_that_the_series_does_not_allow_is_refused_wherever_it_comes_from():
    with pytest.raises(ProposalError, match=r"data.seq_len=168 is longer than .* 100 at most"):
        apply_changes(RunConfig(), [change("data.seq_len", 168)], max_seq_len=100)
    to_linear = [change("model.family", "linear")]
    with pytest.raises(ProposalError, match=r"data.seq_len=336 \(where these changes start\)"):
        apply_changes(RunConfig(), to_linear, max_seq_len=100)
    assert apply_changes(RunConfig(), [*to_linear, change("data.seq_len", 96)], max_seq_len=100)


def test_all_problems_of_a_proposal_are_named_at_once():
    with pytest.raises(ProposalError) as refusal:
        apply_changes(RunConfig(), [change("model.x", 1), change("training.y", 2)])
    assert "model.x" in str(refusal.value) and "training.y" in str(refusal.value)


def test_changing_the_family_starts_from_its_default_and_keeps_task_and_seed():
    parent = RunConfig(task=ForecastingTask(pred_len=96), seed=7)
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


TASKS = (ForecastingTask(), ForecastingTask(targets=("OT", "HUFL"), pred_len=5), GraphRegressionTask())
TASK_IDS = ("one target", "two targets", "graphs")
CROSS_FIELD_RULES = ("not divisible", "longer than", "must be odd", "fewer than", "and there are none")


def values_of(parameter):
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if parameter.kind == "int":
        return st.integers(int(parameter.low), int(parameter.high))
    return st.floats(parameter.low, parameter.high)


def default_for(task, family):
    """The family's default, for this task."""
    return RunConfig.model_validate(family_default(family).model_dump() | {"task": task})


def tasks_for(family):
    """Of the tasks here those that the family serves."""
    return [task for task in TASKS if family in families_of(task.kind)]


@st.composite
def configs(draw, task, family=None):
    """Any configuration of the space, each active parameter changed or left as the default has it."""
    families = families_of(task.kind)
    config = default_for(task, family or draw(st.sampled_from(sorted(families))))
    for parameter in parameters(config.model.family):
        if draw(st.booleans()) and is_active(config, parameter):
            config = changed_within_the_rules(config, change(parameter.path, draw(values_of(parameter))))
    return config


def changed_within_the_rules(config, one_change):
    """The config changed, or as it was where a rule between fields forbids the change."""
    try:
        return apply_changes(config, [one_change])
    except ProposalError as error:
        refusal = str(error)
    assert any(rule in refusal for rule in CROSS_FIELD_RULES), refusal
    return config


def with_value(config, path, value):
    """`config` with one value replaced, whatever the rules say."""
    plain = config.model_dump()
    group, name = path.split(".", 1)
    plain[group][name] = value
    return RunConfig.model_validate(plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_decides_about_a_parameter_is_declared_before_it_and_is_always_active(family):
    by_path = {p.path: p for p in parameters(family)}
    seen = {}
    for parameter in by_path.values():
        if parameter.when is not None:
            master = seen[f"{parameter.group}.{parameter.when.field}"]
            assert master.when is None and master.where in (None, parameter.where)
            assert set(parameter.when.values) - {None} < set(master.choices)
        seen[parameter.path] = parameter
    order = list(by_path)
    if "model.channel_independence" in by_path:
        assert order.index("model.channel_independence") < order.index("data.features")


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_a_change_is_accepted_if_and_only_if_its_parameter_is_active(family, data):
    config = data.draw(configs(data.draw(st.sampled_from(tasks_for(family))), family))
    for parameter in parameters(family):
        same = change(parameter.path, value_at(config, parameter.path))
        if is_active(config, parameter):
            assert apply_changes(config, [same]) == config
        else:
            with pytest.raises(ProposalError, match="has no effect here: "):
                apply_changes(config, [same])


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_the_key_sees_every_active_value_and_no_other(family, data):
    config = data.draw(configs(data.draw(st.sampled_from(tasks_for(family))), family))
    key = canonical_key(config)
    for parameter in parameters(family):
        value = data.draw(values_of(parameter))
        if value == value_at(config, parameter.path):
            continue
        try:
            other = with_value(config, parameter.path, value)
        except ValidationError:
            continue
        # None is another spelling of max_epochs.
        same_schedule = parameter.path == "training.t_max" and config.training.t_max is None
        same_schedule &= value == config.training.max_epochs
        expected = is_active(config, parameter) and not same_schedule
        assert (canonical_key(other) != key) == expected, parameter.path


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_changes_between_two_configurations_lead_from_one_to_the_other(data):
    task = data.draw(st.sampled_from(TASKS))
    first, second = data.draw(configs(task)), data.draw(configs(task))
    assert canonical_key(apply_changes(first, changes_between(first, second))) == canonical_key(second)


@pytest.mark.parametrize("task", TASKS, ids=TASK_IDS)
def test_changes_lead_from_every_family_to_every_other(task):
    defaults = [default_for(task, name) for name in families_of(task.kind)]
    for first in defaults:
        for second in defaults:
            reached = apply_changes(first, changes_between(first, second))
            assert canonical_key(reached) == canonical_key(second)
            assert reached.task == task


def test_a_lower_bound_on_a_grid_keeps_what_fits_and_at_least_the_bound():
    seq_len = next(p for p in parameters("linear") if p.path == "data.seq_len")
    assert seq_len.at_most(200).choices == (48, 96, 168)
    assert seq_len.at_most(48).choices == (48,)
    assert seq_len.at_most(20).choices == (20,) and seq_len.at_most(20).high == 20
    assert seq_len.at_most(10_000) == seq_len


def test_an_overview_names_every_parameter_of_every_family():
    space = overview(list(FAMILIES))
    for family in FAMILIES:
        tables = [table for table in (*space.own, *space.common) if family in table.families]
        listed = [p for table in tables for p in table.parameters] + [*space.data, *space.training]
        assert sorted(p.path for p in listed) == sorted(p.path for p in parameters(family))
        assert set(listed) == set(parameters(family))


def test_an_overview_for_one_target_leaves_out_what_needs_several():
    named = {p.path for table in overview(["linear", "lstm"], TASKS[0]).own for p in table.parameters}
    assert "model.individual" not in named and "model.channel_independence" not in named
    assert {"model.individual", "model.channel_independence"} <= {
        p.path for table in overview(["linear", "lstm"], TASKS[1]).own for p in table.parameters
    }


def test_an_overview_for_graphs_leaves_out_what_needs_a_series():
    space = overview(["graph_transformer"], GraphRegressionTask())
    named = {p.path for p in (*space.data, *space.training)}
    assert not {"data.seq_len", "data.features", "training.augmentation"} & named
    assert {"data.batch_size", "training.lr"} <= named


@pytest.mark.parametrize(
    ("task", "family", "served"),
    [
        (GraphRegressionTask(), "gru", "graph_transformer"),
        (ForecastingTask(), "graph_transformer", "informer, ridge"),
    ],
)
def test_a_family_of_another_kind_of_task_is_refused_with_those_that_serve_this_one(task, family, served):
    parent = default_for(task, families_of(task.kind)[0])
    with pytest.raises(ProposalError, match=f"is not a family for this task; choose from: {served}"):
        apply_changes(parent, [change("model.family", family)])
    with pytest.raises(ValidationError, match="does not serve the task"):
        default_for(task, family)


def test_tried_values_are_what_a_family_default_sets_otherwise():
    assert tried_values("linear")["data.seq_len"] == 336
    assert "data.features" not in tried_values("linear"), "it has no effect there"
    assert "training.optimizer" not in tried_values("linear"), "it is the field's own default"
