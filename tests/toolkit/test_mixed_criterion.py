"""The mixed criterion against torch's own losses and closed forms."""

import math

import pytest
import torch
from torch import nn

from nas_system.errors import ConfigError
from nas_system.toolkit.mixed_criterion import MixedCriterion


class Items:
    """A data set of (input, target) with whatever attributes a test wants."""

    def __init__(self, targets, **attributes):
        self.targets = targets
        self.read = []
        vars(self).update(attributes)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        self.read.append(index)
        return torch.zeros(2), self.targets[index]


class Unreadable:
    """Says everything by attributes; reading an item is an error."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        raise AssertionError("an item was read")


def mixed_targets(n=40):
    generator = torch.Generator().manual_seed(1)
    regression = 50 + 7 * torch.randn(n, generator=generator)
    return torch.stack([regression, (torch.rand(n, generator=generator) > 0.4).float()], dim=1)


def test_a_mixture_is_squared_error_here_and_cross_entropy_there():
    targets = mixed_targets()
    criterion = MixedCriterion(Items(targets))
    output = torch.randn(40, 2, generator=torch.Generator().manual_seed(2))
    mean, std = targets[:, 0].mean(), targets[:, 0].std(correction=0)
    scaled = nn.MSELoss()(output[:, 0], (targets[:, 0] - mean) / std)
    unscaled = nn.MSELoss()(output[:, 0] * std + mean, targets[:, 0])
    cross_entropy = nn.BCEWithLogitsLoss()(output[:, 1], targets[:, 1])
    close = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}
    torch.testing.assert_close(criterion(output, targets), (scaled + cross_entropy) / 2, **close)
    torch.testing.assert_close(
        criterion(output, targets, unscaled=True), (unscaled + cross_entropy) / 2, **close
    )
    expected = torch.stack([output[:, 0] * std + mean, torch.sigmoid(output[:, 1])], dim=1)
    torch.testing.assert_close(criterion.postproc(output), expected, **close)


def test_one_kind_alone_is_torchs_own_loss():
    output = torch.randn(12, 3, generator=torch.Generator().manual_seed(3))
    labels = (torch.arange(36).reshape(12, 3) % 2).float()
    classification = MixedCriterion(Items(labels))
    assert classification.regression.tolist() == [False] * 3
    assert torch.equal(classification(output, labels), nn.BCEWithLogitsLoss()(output, labels))
    assert torch.equal(classification(output, labels.long()), nn.BCEWithLogitsLoss()(output, labels))
    assert torch.equal(classification.postproc(output), torch.sigmoid(output))

    unscaled = MixedCriterion(None)
    assert torch.equal(unscaled(output, output * 2), nn.MSELoss()(output, output * 2))
    assert torch.equal(unscaled.postproc(output), output)


def test_the_gradient_does_not_depend_on_the_targets_units_and_the_decision_does():
    def loss_and_gradient(targets):
        criterion = MixedCriterion(Items(targets))
        output = torch.linspace(-1, 1, 20).reshape(20, 1).requires_grad_()
        loss = criterion(output, targets)
        return loss, torch.autograd.grad(loss, output)[0], criterion(output, targets, unscaled=True)

    metres = torch.randn(20, 1, generator=torch.Generator().manual_seed(4))
    loss, gradient, decision = loss_and_gradient(metres)
    loss_mm, gradient_mm, decision_mm = loss_and_gradient(1000 * metres + 5)
    torch.testing.assert_close(gradient, gradient_mm, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss, loss_mm, rtol=1e-4, atol=0)
    torch.testing.assert_close(decision * 1e6, decision_mm, rtol=1e-4, atol=0)


class TestWeights:
    output = torch.randn(6, 2, generator=torch.Generator().manual_seed(5))

    def test_weights_of_one_change_not_a_bit(self):
        targets = mixed_targets(6)
        criterion = MixedCriterion(Items(targets))
        shapes = (torch.ones(6), torch.ones(6, dtype=torch.float64), torch.ones(6, 2), torch.ones(6, 1))
        for unscaled in (False, True):
            plain = criterion(self.output, targets, unscaled=unscaled)
            for ones in shapes:
                assert torch.equal(criterion(self.output, targets, ones, unscaled=unscaled), plain)

    def test_a_number_weighs_the_item_and_nothing_is_normalised(self):
        targets = mixed_targets(6)
        criterion = MixedCriterion(Items(targets))
        weights = torch.tensor([1, 2, 0, 4, 1, 3])
        each = [criterion(self.output[i : i + 1], targets[i : i + 1]) for i in range(6)]
        expected = sum(w * loss for w, loss in zip(weights.tolist(), each, strict=True)) / 6
        torch.testing.assert_close(criterion(self.output, targets, weights), expected)

    def test_a_vector_weighs_the_columns(self):
        targets = torch.randn(6, 2, generator=torch.Generator().manual_seed(6))
        criterion = MixedCriterion(None)
        weights = torch.tensor([[1.0, 10.0]]).expand(6, 2)
        error = (self.output - targets).square()
        expected = (error[:, 0].mean() + 10 * error[:, 1].mean()) / 2
        torch.testing.assert_close(criterion(self.output, targets, weights), expected)

    def test_as_many_items_as_columns_are_not_confused(self):
        # (2,) weights belong to the two items, not to the two columns.
        output, targets = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.zeros(2, 2)
        loss = MixedCriterion(None)(output, targets, torch.tensor([1.0, 0.0]))
        assert loss.item() == pytest.approx((1 + 1) / 4)

    def test_they_reach_over_the_steps_of_a_sequence(self):
        output, targets = torch.ones(2, 5, 3), torch.zeros(2, 5, 3)
        per_item = MixedCriterion(None)(output, targets, torch.tensor([1.0, 3.0]))
        per_column = MixedCriterion(None)(output, targets, torch.tensor([[0.0, 0.0, 3.0]] * 2))
        assert per_item.item() == pytest.approx(2.0)
        assert per_column.item() == pytest.approx(1.0)


class TestAnalysis:
    def test_only_the_first_thousand_items_are_looked_at(self):
        targets = torch.zeros(1500, 1)
        targets[1000] = 7.0
        items = Items(targets)
        assert MixedCriterion(items).regression.tolist() == [False]
        assert items.read == list(range(1000))
        targets[999] = 7.0
        assert MixedCriterion(Items(targets)).regression.tolist() == [True]

    def test_a_column_of_halves_is_regression(self):
        assert MixedCriterion(Items(torch.tensor([[0.0], [0.5], [1.0]]))).regression.tolist() == [True]

    def test_what_the_data_set_says_is_taken_and_no_item_is_read(self):
        criterion = MixedCriterion(Unreadable(regression_flags=[1, 0], scale=[[10, 3], [2, 4]]))
        assert criterion.settings() == {"regression_flags": [1, 0], "mean": [10, 0], "std": [2, 1]}
        assert MixedCriterion(Unreadable(regression_flags=[0, 0])).std.tolist() == [1, 1]
        numbers = MixedCriterion(Unreadable(regression_flags=[1, 1, 0], scale=[5, 2]))
        assert numbers.mean.tolist() == [5, 5, 0]

    def test_given_flags_alone_the_scale_is_found_and_the_other_way_round(self):
        targets = mixed_targets()
        flagged = MixedCriterion(Items(targets, regression_flags=[1, 1]))
        assert flagged.mean.tolist() == pytest.approx(targets.mean(dim=0).tolist())
        scaled = MixedCriterion(Items(targets, scale=[50, 7]))
        assert scaled.settings() == {"regression_flags": [1, 0], "mean": [50, 0], "std": [7, 1]}

    def test_a_constant_column_does_not_divide_by_zero(self):
        targets = torch.full((9, 1), 0.1)
        criterion = MixedCriterion(Items(targets))
        assert criterion.std.tolist() == [1.0]
        assert criterion(torch.zeros(9, 1), targets).item() == pytest.approx(0, abs=1e-12)

    def test_a_large_mean_does_not_eat_a_small_spread(self):
        seconds = 1.7e9 + torch.arange(8, dtype=torch.float64).reshape(8, 1)
        criterion = MixedCriterion(Items(seconds))
        exact = ((seconds - seconds.mean()) / seconds.std(correction=0)).float()
        assert criterion(exact, seconds).item() == pytest.approx(0, abs=1e-12)
        assert criterion(exact + 1, seconds).item() == pytest.approx(1, rel=1e-6)

    def test_targets_may_be_numbers_or_sequences(self):
        numbers = MixedCriterion(Items([3, 5]))
        assert (numbers.mean.tolist(), numbers.std.tolist()) == ([4.0], [1.0])
        assert numbers(torch.zeros(2), torch.tensor([3, 5])).item() == pytest.approx(1.0)
        steps = torch.stack([torch.zeros(5, 2), torch.tensor([2.0, 1.0]).expand(5, 2)])
        sequences = MixedCriterion(Items(steps))
        assert sequences.settings() == {"regression_flags": [1, 0], "mean": [1, 0], "std": [1, 1]}

    def test_settings_rebuild_it(self):
        criterion = MixedCriterion(Items(mixed_targets()))
        output, targets = torch.randn(40, 2), mixed_targets()
        again = MixedCriterion.from_settings(criterion.settings())
        for unscaled in (False, True):
            assert torch.equal(
                again(output, targets, unscaled=unscaled), criterion(output, targets, unscaled=unscaled)
            )
        assert torch.equal(again.postproc(output), criterion.postproc(output))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Items([]), "dataset is empty"),
        (Items(torch.tensor([[1.0, 2.0], [1.0, math.nan]])), "NaN or infinity in column 1"),
        (Items([torch.zeros(2), torch.zeros(3)]), "differ in shape; set `regression_flags`"),
        (Items(["a", "b"]), "cannot become a tensor"),
        ([torch.zeros(3)], r"dataset\[0\] is not \(input, target\)"),
        (Unreadable(regression_flags=[1, 2], scale=[0, 1]), "regression_flags"),
        (Unreadable(regression_flags=[1], scale=[0, 0]), "every std must be above 0"),
        (Unreadable(regression_flags=[1], scale=[0, 1, 2]), r"must be \[mean, std\]"),
        (Items(torch.rand(4, 2), regression_flags=[1, 1, 1]), "one of each per target column"),
    ],
)
def test_what_cannot_be_analysed_is_named(dataset, message):
    with pytest.raises(ConfigError, match=message):
        MixedCriterion(dataset)


def test_shapes_that_would_broadcast_are_refused():
    # (3, 1) against (3,) would compare every output with every target.
    with pytest.raises(ConfigError, match=r"shape \(3, 1\) and the target has \(3,\)"):
        MixedCriterion(None)(torch.zeros(3, 1), torch.zeros(3))
