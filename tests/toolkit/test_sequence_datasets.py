"""Sequence data sets: which rows a window holds, which one it predicts, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from nas_system.data import WindowLoader
from nas_system.toolkit.sequence_datasets import SequenceDataset
from nas_system.training import Trainer, get_optimizer

ROWS = 23
X = np.arange(2 * ROWS, dtype=np.float64).reshape(ROWS, 2)
Y = np.arange(ROWS, dtype=np.float64) + 0.5


@pytest.mark.parametrize("seq_length", [1, 5, 22])
@pytest.mark.parametrize("stride", [1, 2, 3, 30])
def test_windows_are_those_of_the_plain_definition_and_the_last_one_exists(seq_length, stride):
    dataset = SequenceDataset(X, Y, seq_length, stride)
    assert len(dataset) == (ROWS - seq_length - 1) // stride + 1
    for number, item in enumerate(dataset):
        start = number * stride
        end = start + seq_length
        assert torch.equal(item["X"], torch.FloatTensor(X[start:end]))
        assert torch.equal(item["y"], torch.FloatTensor([Y[end]]))
        assert dataset.target_rows(number) == range(end, end + 1)
    assert end + stride >= ROWS, "no window is left out at the end"


def test_every_input_row_comes_before_the_row_predicted():
    rows = np.arange(ROWS)
    for pred_len in (1, 4):
        for item in SequenceDataset(rows[:, None], rows, 6, pred_len=pred_len):
            assert item["X"].max() + 1 == item["y"].min()
            assert item["y"].tolist() == list(range(int(item["y"][0]), int(item["y"][0]) + pred_len))


def test_shapes_follow_y():
    assert SequenceDataset(X, Y, 5, pred_len=3)[0]["y"].shape == (3,)
    assert SequenceDataset(X, X, 5, pred_len=3)[0]["y"].shape == (3, 2)
    assert SequenceDataset(X, Y[:, None], 5)[0]["y"].shape == (1, 1)
    assert SequenceDataset(Y, Y, 5)[0]["X"].shape == (5, 1)
    assert all(value.dtype == torch.float32 for value in SequenceDataset(X, Y, 5)[0].values())


def test_indices_count_from_both_ends_and_no_further():
    dataset = SequenceDataset(X, Y, 5)
    assert dataset[-1]["y"].item() == Y[-1]
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[index]


@pytest.mark.parametrize("rows", [2, 4, 6])
def test_a_series_too_short_is_padded_with_copies_of_its_first_row(rows):
    dataset = SequenceDataset(X[:rows], Y[:rows], 6)
    (item,) = dataset
    assert dataset.padding == 7 - rows
    assert item["X"].tolist() == [X[0].tolist()] * dataset.padding + X[: rows - 1].tolist()
    assert item["y"].item() == Y[rows - 1]
    assert dataset.target_rows(0) == range(rows - 1, rows)


def test_a_series_that_is_just_long_enough_is_not_padded():
    assert SequenceDataset(X[:7], Y[:7], 6).padding == 0


def test_frames_series_and_arrays_give_the_same():
    index = pd.date_range("2024-01-01", periods=ROWS, freq="D")
    frame, series = pd.DataFrame(X, index=index, columns=["a", "b"]), pd.Series(Y, index=index)
    for item, other in zip(SequenceDataset(X, Y, 5), SequenceDataset(frame, series, 5), strict=True):
        assert torch.equal(item["X"], other["X"])
        assert torch.equal(item["y"], other["y"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_missing_number_is_refused_with_its_row_and_column(bad):
    index = pd.date_range("2024-01-01", periods=ROWS, freq="D")
    frame = pd.DataFrame(X, index=index, columns=["load", "heat"])
    frame.iloc[7, 1] = bad
    with pytest.raises(ValueError, match=rf"X: row 7 \(2024-01-08 00:00:00\), column 'heat' is {bad}"):
        SequenceDataset(frame, Y, 5)
    y = Y.copy()
    y[3] = bad
    with pytest.raises(ValueError, match=f"y: row 3, column 0 is {bad}"):
        SequenceDataset(X, y, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"X": X[:5]}, "X has 5 rows and y 23"),
        ({"X": X[:1], "y": Y[:1]}, "1 rows are too few"),
        ({"X": [["a", "b"]] * ROWS}, "X holds something that is no number"),
        ({"X": np.zeros((ROWS, 2, 2))}, "rows and columns are expected"),
        ({"seq_length": 0}, "seq_length=0"),
        ({"stride": 0}, "stride=0"),
        ({"pred_len": 0}, "pred_len=0"),
        ({"pred_len": ROWS}, "one must come before"),
    ],
)
def test_what_makes_no_windows_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        SequenceDataset(**({"X": X, "y": Y, "seq_length": 5} | arguments))


def test_torchs_loader_and_ours_serve_the_same_windows():
    dataset = SequenceDataset(X, Y[:, None], 5)
    ours = WindowLoader(dataset.windows, 4)
    for batch, other in zip(DataLoader(dataset, batch_size=4), ours, strict=True):
        assert torch.equal(batch["X"], other.args[0])
        assert torch.equal(batch["y"], other.target)


def test_its_batches_train_with_the_engine():
    noise = torch.randn(300, 1, generator=torch.Generator().manual_seed(0)).numpy()
    dataset = SequenceDataset(
        noise, np.roll(noise[:, 0], 2), 3
    )  # y[i] = X[i - 2], in the middle of the window
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    trainer = Trainer(model, get_optimizer(model, lr=0.05), device="cpu")
    history = trainer.fit(DataLoader(dataset, batch_size=32), epochs=30)
    assert history["train_loss"][-1] < 0.01
    assert model[1].weight[0].tolist() == pytest.approx([0, 1, 0], abs=0.1)


def test_workers_may_serve_it():
    dataset = SequenceDataset(X, Y, 5)
    served = [batch["y"] for batch in DataLoader(dataset, batch_size=8, num_workers=1)]
    assert torch.cat(served).flatten().tolist() == Y[5:].tolist()
