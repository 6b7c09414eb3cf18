"""Objectives against closed forms: what is reported, what decides, and in which direction."""

import math

import pytest
import torch
from torch import nn

from nas_system.errors import PreflightFailed
from nas_system.space import TrainingConfig
from nas_system.training.callbacks import BestCheckpoint, history_as_json
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.objectives import (
    Classification,
    EdgePrediction,
    Forecasting,
    GraphRegression,
    direction_of,
)
from nas_system.training.preflight.preflight import Preflight, Workload
from nas_system.training.running_mean import RunningMean
from nas_system.training.scheduler import build_scheduler

CPU = torch.device("cpu")


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def report(objective, output, target) -> dict[str, float]:
    return dict(zip(objective.names, objective.report(output, target, None).tolist(), strict=True))


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("dtype", [torch.long, torch.float32])
def test_accuracy_is_the_share_of_hits_and_cross_entropy_the_mean_log_probability(shape, dtype):
    output = logits_of([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.7, 0.2, 0.1]])
    target = torch.tensor([0, 2, 1], dtype=dtype).reshape(shape)
    objective = Classification(3)
    expected = -(math.log(0.5) + math.log(0.6) + math.log(0.2)) / 3
    assert report(objective, output, target) == pytest.approx({"accuracy": 2 / 3, "cross_entropy": expected})
    assert objective.loss(output, target, None).item() == pytest.approx(expected)
    assert (objective.names[0], direction_of(objective)) == ("accuracy", "maximize")


def test_a_classification_may_be_decided_by_its_cross_entropy():
    objective = Classification(2, decided_by="cross_entropy")
    assert (objective.names, direction_of(objective)) == (("cross_entropy", "accuracy"), "minimize")
    # As sequence models answer: one step, targets (B, 1, 1).
    output, target = logits_of([[0.9, 0.1], [0.6, 0.4]])[:, None], torch.tensor([[[0.0]], [[1.0]]])
    expected = {"cross_entropy": -(math.log(0.9) + math.log(0.4)) / 2, "accuracy": 0.5}
    assert report(objective, output, target) == pytest.approx(expected)


def test_a_classification_needs_two_classes_and_their_logits():
    with pytest.raises(ValueError, match="at least two classes"):
        Classification(1)
    with pytest.raises(ValueError, match=r"3 classes need logits \(B, 3\), not \(4, 2\)"):
        Classification(3).loss(torch.zeros(4, 2), torch.zeros(4), None)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_edges_are_scored_by_the_sign_of_their_logit(shape):
    shares = torch.tensor([0.75, 0.6, 0.2, 0.5 + 1e-3])
    label = torch.tensor([1.0, 0.0, 0.0, 1.0])
    expected = -(math.log(0.75) + math.log(0.4) + math.log(0.8) + math.log(0.501)) / 4
    objective = EdgePrediction()
    found = report(objective, shares.logit().reshape(shape), label)
    assert found == pytest.approx({"accuracy": 3 / 4, "bce": expected})
    assert direction_of(objective) == "maximize"


def test_one_logit_per_edge_is_never_compared_with_all_labels():
    with pytest.raises(ValueError, match="do not fit"):
        EdgePrediction().loss(torch.zeros(4, 2), torch.zeros(4), None)


@pytest.mark.parametrize(
    ("objective", "width", "target"),
    [
        (Classification(3), 3, torch.arange(90) % 3),
        (EdgePrediction(), 1, (torch.arange(90) % 2).float()),
    ],
)
def test_pooled_batches_give_the_mean_over_all_samples(objective, width, target):
    output = torch.randn(90, width, generator=torch.Generator().manual_seed(0))
    running = RunningMean(objective, CPU)
    for begin, end in ((0, 1), (1, 8), (8, 50), (50, 90)):
        running.add(output[begin:end], target[begin:end], None, end - begin)
    assert running.metrics() == pytest.approx(report(objective, output, target), rel=1e-5)


# -- a maximised metric decides ----------------------------------------------------------------------


TRAINING_SAMPLES = 6


class Scripted(Forecasting):
    """Reports given validation scores, one per evaluation; its loss is the squared error."""

    names = ("score",)
    pools_batches = False

    def __init__(self, scores, direction):
        super().__init__()
        self.scores = iter(scores)
        self.direction = direction

    def report(self, output, target, weight):
        training = len(target) == TRAINING_SAMPLES
        return torch.tensor([0.0 if training else next(self.scores)])


def scripted(scores, *, direction="maximize", patience=None, **training) -> Engine:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    config = TrainingConfig(scheduler="plateau", plateau_factor=0.5, plateau_patience=0, **training)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return Engine(
        model,
        optimizer,
        Scripted(scores, direction),
        CPU,
        EarlyStoppingState(patience=patience, direction=direction),
        scheduler=build_scheduler(optimizer, config, direction=direction),
    )


def parts():
    x = torch.randn(TRAINING_SAMPLES, 2, generator=torch.Generator().manual_seed(1))
    return [(x, x.sum(1, keepdim=True))], [(x[:3], x[:3].sum(1, keepdim=True))]


@pytest.mark.parametrize(
    ("direction", "scores"),
    [("maximize", [-2.0, -1.0, -3.0, -1.5, 9.0]), ("minimize", [2.0, 1.0, 3.0, 1.5, -9.0])],
)
def test_patience_best_checkpoint_and_plateau_follow_the_direction(tmp_path, direction, scores):
    engine = scripted(scores, direction=direction, patience=2)
    best = BestCheckpoint(tmp_path / "best.pth", {})
    assert engine.fit(*parts(), 5, [best]) == "early_stopping"
    assert [record.is_best for record in engine.history] == [True, True, False, False]
    assert load_checkpoint(best.path, sha256=best.sha256)["val"] == {"score": scores[1]}
    assert history_as_json(engine)["best_epoch"] == 1
    # The rate is halved after the two epochs that are not better, the second of them after its own.
    assert [record.lr for record in engine.history] == [0.01, 0.01, 0.01, 0.005]
    assert engine.optimizer.param_groups[0]["lr"] == 0.0025


def test_the_loss_is_minimised_also_when_the_score_is_maximised():
    engine = scripted([0.1] * 20)
    train, val = parts()
    first = engine.objective.loss(engine.model(train[0][0]), train[0][1], None).item()
    engine.fit(train, val, 20)
    assert engine.objective.loss(engine.model(train[0][0]), train[0][1], None).item() < first


def test_a_maximised_score_survives_a_resume():
    whole = scripted([0.2, 0.7, 0.5, 0.6])
    whole.fit(*parts(), 4)
    begun = scripted([0.2, 0.7])
    begun.fit(*parts(), 2)
    resumed = scripted([0.5, 0.6])
    resumed.load_state_dict(begun.state_dict())
    resumed.fit(*parts(), 4)
    assert resumed.progress == whole.progress
    assert (whole.progress.best, whole.progress.best_epoch) == (pytest.approx(0.7), 1)


def test_an_engine_refuses_to_minimise_what_is_to_be_maximised():
    model = nn.Linear(2, 3)
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ValueError, match=r"accuracy is to maximize.*direction='maximize'"):
        Engine(model, optimizer, Classification(3), CPU, EarlyStoppingState())


def test_training_raises_the_accuracy_of_a_separable_problem():
    x = torch.randn(240, 2, generator=torch.Generator().manual_seed(2))
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    state = EarlyStoppingState(direction="maximize")
    engine = Engine(model, optimizer, Classification(3), CPU, state)
    batches = list(zip(x.split(40), y.split(40), strict=True))
    engine.fit(batches, batches, 30)
    assert state.best > 0.95 > 2 * engine.history[0].train["accuracy"] - 0.95
    assert state.best == max(record.val["accuracy"] for record in engine.history)


# -- preflight ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [3, 2])
def test_the_preflight_expects_one_logit_per_class(outputs):
    x, y = torch.randn(64, 2), torch.arange(64) % 3
    model = nn.Linear(2, outputs)
    state = EarlyStoppingState(direction="maximize")
    engine = Engine(model, torch.optim.Adam(model.parameters()), Classification(3), CPU, state)
    work = Workload(lambda n: (x[:n], y[:n]), 16, 64, 8, 8, 32)
    if outputs == 3:
        Preflight(engine, work).check_batch()
        return
    with pytest.raises(PreflightFailed, match=r"output is \(2, 2\), expected \(2, 3\)"):
        Preflight(engine, work).check_batch()


def test_a_regression_is_not_compared_with_targets_of_another_shape():
    with pytest.raises(ValueError, match=r"\(4, 1\) cannot be compared with targets \(4,\)"):
        GraphRegression().report(torch.zeros(4, 1), torch.zeros(4), None)
