"""Metrics of a whole pass: errors, accuracy, F1, and areas under curves.

Every metric is a function of *all* outputs and targets of a pass. An area under a curve averaged
over batches is another number, and the root of a mean is not the mean of roots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from nas_system.training.objectives import aligned

Metric = Callable[[Tensor, Tensor], Tensor | float]
"""metric(outputs, targets) over all samples."""

HIGHER_IS_BETTER = ("accuracy", "f1", "roc_auc", "ap", "precision")


def get_metrics(
    task_type: str = "regression", num_classes: int | None = None, k: int = 10
) -> dict[str, Metric]:
    """Return the metrics of a task by name: a dictionary to which custom functions may be added.

    Regression: mse, mae, rmse. Classification over `num_classes`: accuracy, f1, roc_auc, ap. Edge
    prediction: roc_auc, ap, precision@k. Raises ValueError for an unknown task or no `num_classes`.
    """
    if k < 1:
        raise ValueError(f"k={k}: precision@k looks at least at one sample")
    if task_type == "regression":
        return {"mse": mse, "mae": mae, "rmse": rmse}
    if task_type == "edge_prediction":
        return {"roc_auc": roc_auc, "ap": average_precision, f"precision@{k}": partial(precision_at_k, k=k)}
    if task_type != "classification":
        raise ValueError(
            f"task_type={task_type!r} is not known; choose from: regression, classification, edge_prediction"
        )
    if num_classes is None or num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: classification needs the number of classes, at least 2")
    return {
        "accuracy": partial(accuracy, num_classes=num_classes),
        "f1": partial(f1, num_classes=num_classes),
        "roc_auc": partial(_over_classes, roc_auc, num_classes=num_classes),
        "ap": partial(_over_classes, average_precision, num_classes=num_classes),
    }


def is_higher_better(name: str) -> bool:
    """Return whether higher values of this metric are better (`precision@10` counts as precision)."""
    return name.partition("@")[0] in HIGHER_IS_BETTER


class MetricMeter:
    """Keeps the outputs and targets of a pass where they are, and computes every metric at its end."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self.metrics = metrics
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, output: Tensor, target: Tensor) -> None:
        self._outputs.append(output)
        self._targets.append(target)

    def compute(self) -> dict[str, float]:
        if not self.metrics:
            return {}
        outputs, targets = torch.cat(self._outputs), torch.cat(self._targets)
        return {name: float(metric(outputs, targets)) for name, metric in self.metrics.items()}


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error."""
    return (aligned(outputs, targets) - targets).square().mean()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error."""
    return (aligned(outputs, targets) - targets).abs().mean()


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the root of the mean squared error over all samples."""
    return mse(outputs, targets).sqrt()


def accuracy(outputs: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return the share of samples whose most likely class is the right one."""
    return (_classes(outputs, num_classes) == targets.reshape(-1)).double().mean()


def f1(outputs: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return 2 TP / (2 TP + FP + FN): of class 1 of two, else the mean over the classes that occur."""
    predicted, truth = _classes(outputs, num_classes), targets.reshape(-1).long()
    one_hot = torch.nn.functional.one_hot
    chosen, true = one_hot(predicted, num_classes).bool(), one_hot(truth, num_classes).bool()
    hits = (chosen & true).sum(0).double()
    occurrences = (chosen.sum(0) + true.sum(0)).double()
    if num_classes == 2:
        return 2 * hits[1] / occurrences[1].clamp(min=1)
    occurring = occurrences > 0
    return (2 * hits[occurring] / occurrences[occurring]).mean()


def roc_auc(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the chance that a positive scores above a negative, ties counting half; NaN without both.

    By ranks (Mann and Whitney 1947): one sort, no thresholds.
    """
    scores, positive = _binary(scores, labels)
    n_positive, n_negative = positive.sum(), (~positive).sum()
    if n_positive == 0 or n_negative == 0 or scores.isnan().any():
        return torch.tensor(float("nan"))
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    mean_ranks = ends - (counts.double() - 1) / 2
    above = mean_ranks[inverse][positive].sum() - n_positive * (n_positive + 1) / 2
    return above / (n_positive.double() * n_negative)


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return precision averaged over recall, without interpolation; NaN without a positive.

    Samples of equal score enter together: their order means nothing.
    """
    scores, positive = _binary(scores, labels)
    n_positive = positive.sum()
    if n_positive == 0 or scores.isnan().any():
        return torch.tensor(float("nan"))
    _, inverse, counts = torch.unique(-scores, return_inverse=True, return_counts=True)
    hits = torch.zeros(len(counts), dtype=torch.float64, device=scores.device)
    hits.index_add_(0, inverse, positive.double())
    precision = hits.cumsum(0) / counts.cumsum(0)
    return (precision * hits).sum() / n_positive


def precision_at_k(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return the share of positives among the k best (or all); of equal scores at the border, the mean."""
    scores, positive = _binary(scores, labels)
    k = min(k, len(scores))
    border = scores.topk(k).values[-1]
    above, at = scores > border, scores == border
    hits = (positive & above).sum() + (positive & at).sum() * ((k - above.sum()) / at.sum())
    return hits / k


def _over_classes(metric: Metric, outputs: Tensor, targets: Tensor, num_classes: int) -> Tensor | float:
    """Apply a binary metric to class 1 of two; else to each class against the rest, averaged if defined."""
    if num_classes == 2:
        return metric(_logit(outputs), targets)
    _check_columns(outputs, num_classes)
    scores, labels = outputs.softmax(-1), targets.reshape(-1)
    values = [metric(scores[:, number], labels == number) for number in range(num_classes)]
    return torch.stack([torch.as_tensor(value) for value in values]).nanmean()


def _classes(outputs: Tensor, num_classes: int) -> Tensor:
    if num_classes == 2:
        return (_logit(outputs) > 0).long()
    _check_columns(outputs, num_classes)
    return outputs.argmax(-1)


def _check_columns(outputs: Tensor, num_classes: int) -> None:
    if outputs.ndim != 2 or outputs.shape[1] != num_classes:
        raise ValueError(f"{num_classes} classes need logits (N, {num_classes}), not {tuple(outputs.shape)}")


def _logit(outputs: Tensor) -> Tensor:
    """Return the logit of class 1 against class 0, from one column (bce_logits) or two (cross_entropy)."""
    if outputs.ndim == 2 and outputs.shape[1] == 2:
        return outputs[:, 1] - outputs[:, 0]
    return outputs.reshape(-1)


def _binary(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (N,) in double, and where the label is positive (N,) bool."""
    scores, labels = scores.reshape(-1), labels.reshape(-1)
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} scores do not fit {len(labels)} labels")
    return scores.double(), labels > 0.5
