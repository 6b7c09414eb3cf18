"""Losses are chosen by name, agree with their formulas and never broadcast."""

import math

import pytest
import torch

from nas_system.training import get_loss_fn

OUTPUT = torch.tensor([[1.0], [-2.0], [0.5]])
TARGET = torch.tensor([[0.0], [-1.0], [3.5]])


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [("mse", (1 + 1 + 9) / 3), ("mae", (1 + 1 + 3) / 3), ("huber", (0.5 + 0.5 + 2.5) / 3)],
)
def test_regression_losses_equal_their_formulas(loss_type, expected):
    assert get_loss_fn("regression", loss_type=loss_type)(OUTPUT, TARGET).item() == pytest.approx(expected)


def test_the_default_of_regression_is_the_squared_error():
    assert get_loss_fn("regression")(OUTPUT, TARGET).item() == pytest.approx(11 / 3)


def test_a_column_of_outputs_is_not_broadcast_against_a_row_of_targets():
    flat = get_loss_fn("regression")(OUTPUT, TARGET.squeeze(1)).item()
    assert flat == pytest.approx(11 / 3)
    with pytest.raises(ValueError, match=r"\(3, 1\) do not fit targets of \(2,\)"):
        get_loss_fn("regression")(OUTPUT, TARGET[:2, 0])


def test_cross_entropy_equals_its_formula():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    labels = torch.tensor([0, 2])
    expected = (math.log(math.exp(2) + 2) - 2 + math.log(2 + math.e)) / 2
    loss = get_loss_fn("classification", num_classes=3, loss_type="cross_entropy")
    assert loss(logits, labels).item() == pytest.approx(expected)
    assert loss(logits, labels[:, None]).item() == pytest.approx(expected)


def test_bce_equals_its_formula_on_one_logit_per_sample():
    logits, labels = torch.tensor([[1.5], [-0.5]]), torch.tensor([1, 0])
    expected = (math.log1p(math.exp(-1.5)) + math.log1p(math.exp(-0.5))) / 2
    for loss in (
        get_loss_fn("classification", num_classes=2, loss_type="bce_logits"),
        get_loss_fn("edge_prediction"),
    ):
        assert loss(logits, labels).item() == pytest.approx(expected)


def test_two_columns_of_logits_never_turn_cross_entropy_into_bce_or_back():
    two, one = torch.zeros(4, 2), torch.zeros(4, 1)
    labels = torch.tensor([0, 1, 0, 1])
    assert get_loss_fn("classification", num_classes=2)(two, labels).item() == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="bce_logits"):
        get_loss_fn("classification", num_classes=2)(one, labels)
    with pytest.raises(ValueError, match="do not fit"):
        get_loss_fn("classification", num_classes=2, loss_type="bce_logits")(two, labels)


def test_weights_multiply_and_are_not_divided_out():
    loss = get_loss_fn("regression")
    weight = torch.tensor([2.0, 0.0, 1.0])
    assert loss(OUTPUT, TARGET, weight).item() == pytest.approx((2 * 1 + 0 + 9) / 3)
    assert loss(OUTPUT, TARGET, torch.ones(3)).item() == loss(OUTPUT, TARGET).item()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("regresion",), "regression, classification, edge_prediction"),
        (("regression", "bce_logits"), "mse, mae, huber"),
        (("classification", None, 1), "at least two classes"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(arguments, told):
    with pytest.raises(ValueError, match=told):
        get_loss_fn(*arguments)
