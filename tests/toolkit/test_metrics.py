"""Metrics against hand-made figures and brute force over all pairs and thresholds."""

import math

import pytest
import torch

from nas_system.toolkit.metrics import (
    MetricMeter,
    average_precision,
    is_higher_better,
    precision_at_k,
    roc_auc,
)
from nas_system.training import get_metrics


def scored(seed, n=60, levels=8):
    """Scores with many ties, and labels that depend on them a little."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (n,), generator=generator).float()
    labels = (scores / levels + torch.rand(n, generator=generator) > 1.0).long()
    return scores, labels


def auc_by_pairs(scores, labels):
    positive, negative = scores[labels == 1].tolist(), scores[labels == 0].tolist()
    won = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return won / (len(positive) * len(negative))


def ap_by_thresholds(scores, labels):
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        hits = labels[chosen].sum().item()
        reached = hits / labels.sum().item()
        total += (reached - recall) * hits / chosen.sum().item()
        recall = reached
    return total


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [2, 8, 10_000])
def test_areas_equal_brute_force_also_with_ties(seed, levels):
    scores, labels = scored(seed, levels=levels)
    assert roc_auc(scores, labels).item() == pytest.approx(auc_by_pairs(scores, labels), abs=1e-12)
    expected = ap_by_thresholds(scores, labels)
    assert average_precision(scores, labels).item() == pytest.approx(expected, abs=1e-12)


def test_the_textbook_example():
    # Scores .1 .4 .35 .8 with labels 0 0 1 1: published as AUC 0.75 and AP 0.8333 (scikit-learn's manual).
    scores, labels = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])
    assert roc_auc(scores, labels).item() == 0.75
    assert average_precision(scores, labels).item() == pytest.approx(0.8333333, abs=1e-6)


def test_scores_that_say_nothing_give_half_and_the_base_rate():
    labels = torch.tensor([1, 0, 0, 0])
    assert roc_auc(torch.zeros(4), labels).item() == 0.5
    assert average_precision(torch.zeros(4), labels).item() == 0.25


def test_an_area_that_is_not_defined_is_nan():
    assert math.isnan(roc_auc(torch.rand(3), torch.ones(3)))
    assert math.isnan(average_precision(torch.rand(3), torch.zeros(3)))
    assert math.isnan(roc_auc(torch.tensor([0.0, math.nan]), torch.tensor([0, 1])))


def test_precision_at_k_shares_ties_at_the_border():
    scores, labels = torch.tensor([3.0, 2.0, 1.0, 1.0, 0.0]), torch.tensor([1, 0, 1, 0, 1])
    assert precision_at_k(scores, labels, 2).item() == 0.5
    assert precision_at_k(scores, labels, 3).item() == pytest.approx((1 + 0.5) / 3)
    assert precision_at_k(scores, labels, 99).item() == pytest.approx(3 / 5)


def test_two_classes_by_hand_from_one_logit_or_from_two():
    logit = torch.tensor([2.0, 1.0, -1.0, -2.0, 0.5])
    labels = torch.tensor([1, 0, 1, 0, 1])
    metrics = get_metrics("classification", num_classes=2)
    for outputs in (logit[:, None], torch.stack((torch.zeros(5), logit), 1)):
        figures = {name: float(metric(outputs, labels)) for name, metric in metrics.items()}
        # Predicted 1 1 0 0 1: two hits, one false alarm, one miss.
        assert figures["accuracy"] == pytest.approx(3 / 5)
        assert figures["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
        assert figures["roc_auc"] == pytest.approx(auc_by_pairs(logit, labels))
        assert figures["ap"] == pytest.approx(ap_by_thresholds(logit, labels))


def test_three_classes_by_hand():
    # Predicted 0 0 1 2, true 0 1 1 2.
    outputs = torch.tensor([[5.0, 0, 0], [5, 1, 0], [0, 5, 0], [0, 0, 5]])
    labels = torch.tensor([0, 1, 1, 2])
    metrics = get_metrics("classification", num_classes=3)
    figures = {name: float(metric(outputs, labels)) for name, metric in metrics.items()}
    assert figures["accuracy"] == 0.75
    assert figures["f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    probabilities = outputs.softmax(1)
    areas = [auc_by_pairs(probabilities[:, c], (labels == c).long()) for c in range(3)]
    assert figures["roc_auc"] == pytest.approx(sum(areas) / 3)


def test_a_class_that_never_occurs_counts_in_no_mean():
    outputs = torch.tensor([[5.0, 0, 0, 0], [0, 5, 0, 0], [0, 0, 5, 0]])
    metrics = get_metrics("classification", num_classes=4)
    labels = torch.tensor([0, 1, 2])
    assert float(metrics["f1"](outputs, labels)) == 1.0
    assert float(metrics["roc_auc"](outputs, labels)) == 1.0


def test_regression_by_hand_and_without_broadcasting():
    outputs, targets = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 0.0, 7.0])
    figures = {name: float(metric(outputs, targets)) for name, metric in get_metrics("regression").items()}
    assert figures == pytest.approx({"mse": 20 / 3, "mae": 2.0, "rmse": math.sqrt(20 / 3)})


def test_a_meter_judges_the_pass_and_not_its_batches():
    scores, labels = scored(3)
    meter = MetricMeter(get_metrics("edge_prediction", k=5))
    for part, label in zip(scores.split(7), labels.split(7), strict=True):
        meter.add(part, label)
    figures = meter.compute()
    assert list(figures) == ["roc_auc", "ap", "precision@5"]
    assert figures["roc_auc"] == pytest.approx(auc_by_pairs(scores, labels))
    parts = zip(scores.split(7), labels.split(7), strict=True)
    batches = [auc_by_pairs(score, label) for score, label in parts if 0 < label.sum() < len(label)]
    assert abs(sum(batches) / len(batches) - figures["roc_auc"]) > 0.01


def test_directions_are_known():
    names = [*get_metrics("edge_prediction"), *get_metrics("classification", 3)]
    assert all(is_higher_better(name) for name in names)
    assert not any(is_higher_better(name) for name in [*get_metrics("regression"), "loss"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("edges",), "edge_prediction"),
        (("classification",), "number of classes"),
        (("edge_prediction", None, 0), "k=0"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        get_metrics(*arguments)


def test_outputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"5 classes need logits \(N, 5\), not \(3, 4\)"):
        get_metrics("classification", 5)["accuracy"](torch.zeros(3, 4), torch.zeros(3))
