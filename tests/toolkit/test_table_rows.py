"""Tables as people have them: shuffled, with gaps, with text, without labels, with numbers beyond measure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nas_system.toolkit.models import GRUModel
from nas_system.toolkit.sequence_datasets import SequenceDataset

ROWS = 400


def table(rows: int = ROWS, freq: str = "h", start: str = "2024-01-01", **options) -> pd.DataFrame:
    index = pd.date_range(start, periods=rows, freq=freq, **options)
    noise = np.random.default_rng(0).normal(30, 5, (rows, 3))
    return pd.DataFrame(noise, index=index, columns=["a", "b", "c"])


def next_load(X: pd.DataFrame) -> pd.Series:
    """100 + the deviation of the last four rows' a from 30, added up: known before its own row."""
    return (100 + (X["a"] - 30).rolling(4).sum().shift(1)).fillna(100).rename("load")


def model(**options) -> GRUModel:
    settings = {
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 5e-3,
        "scheduler": "none",
        "device": "cpu",
        **options,
    }
    return GRUModel("auto", 16, 1, 8, 0.0, **settings)


def r2(fitted: GRUModel, X: pd.DataFrame, y: pd.Series) -> float:
    forecast = fitted.predict(X)
    truth = y.loc[forecast.index]
    return float(1 - ((forecast - truth) ** 2).mean() / truth.var())


# --- the order of rows ----------------------------------------------------------------------


def test_shuffled_rows_with_dates_score_as_well_as_sorted_ones():
    X = table(600)
    y = next_load(X)
    early, late = slice(0, 450), slice(450, 600)
    expected = model(epochs=15).fit(X[early], y[early])
    assert r2(expected, X[late], y[late]) > 0.8
    for order in (np.random.default_rng(1).permutation(450), np.arange(450)[::-1]):
        shuffled = model(epochs=15).fit(X[early].iloc[order], y[early].iloc[order])
        assert shuffled.history["val_mse"] == expected.history["val_mse"]
        mixed = X[late].iloc[np.random.default_rng(2).permutation(150)]
        pd.testing.assert_series_equal(shuffled.predict(mixed), expected.predict(X[late]), check_freq=False)
    only_X_dated = model(epochs=15).fit(X[early].iloc[::-1], y[early].to_numpy()[::-1])
    only_y_dated = model(epochs=15).fit(X[early].to_numpy()[::-1], y[early].iloc[::-1])
    assert only_X_dated.history["val_mse"] == only_y_dated.history["val_mse"] == expected.history["val_mse"]


def test_an_order_that_is_no_time_stays_as_it_is():
    X = table(60)
    y = next_load(X)
    expected = model().fit(X.to_numpy(), y.to_numpy()).history["train_mse"]
    order = np.random.default_rng(1).permutation(60)
    for labels in (pd.Index(order), pd.Index([f"r{number}" for number in order]), pd.RangeIndex(60)):
        named = model().fit(X.set_axis(labels, axis=0), y.set_axis(labels))
        assert named.history["train_mse"] == expected


def without(X: pd.DataFrame, *rows: int) -> pd.DataFrame:
    return X.drop(X.index[list(rows)])


GAPS = {
    "a missing row": (
        without(table(60), 20),
        "here mostly 0 days 01:00:00, but 2024-01-01 21:00:00 follows 2024-01-01 19:00:00; put in",
    ),
    "a missing row, shuffled": (without(table(60), 20).iloc[::-1], "21:00:00 follows 2024-01-01 19:00:00"),
    "a missing month": (without(table(60, "MS"), 9), "2024-11-01 00:00:00 follows 2024-09-01 00:00:00"),
    "weekdays with many missing": (
        without(table(100, "B"), *range(10, 90, 3)),
        "2024-01-16 00:00:00 follows 2024-01-12",
    ),
    "a date twice": (
        pd.concat([table(60), table(60)[40:41]]),
        "rows 40 and 60 are both of 2024-01-02 16:00:00, .*; keep one row for each date",
    ),
    "no date": (
        table(60).set_axis(table(60).index.where(np.arange(60) != 5), axis=0),
        r"row 5 has no date \(NaT\)",
    ),
    "periods": (without(table(60).to_period(), 20), "2024-01-01 21:00:00 follows"),
    "spans of time": (
        without(table(60).set_axis(pd.timedelta_range(0, periods=60, freq="min"), axis=0), 7),
        "0 days 00:08:00 follows 0 days 00:06:00",
    ),
}


@pytest.mark.parametrize(("X", "said"), GAPS.values(), ids=GAPS)
def test_gaps_are_refused_with_the_way_to_close_them(X, said):
    y = pd.Series(np.arange(float(len(X))), index=X.index)
    with pytest.raises(ValueError, match=f"^X: .*{said}"):
        model().fit(X, y)
    with pytest.raises(ValueError, match=said):
        SequenceDataset(X, y, 8)
    with pytest.raises(ValueError, match=f"^y: .*{said}"):
        model().fit(X.to_numpy(), y)
    fitted = model().fit(table(60), next_load(table(60)))
    with pytest.raises(ValueError, match=said):
        fitted.predict(X)
    with pytest.raises(ValueError, match=said):
        fitted.prepare_sequences(X)
    # The way out that the message names.
    fitted.fit(X.reset_index(drop=True), y.reset_index(drop=True))


CALENDARS = {
    "hours over the change of the clock": table(200, start="2024-03-29", tz="Europe/Berlin"),
    "days over the change of the clock": table(60, "D", "2024-03-01", tz="Europe/Berlin"),
    "business days": table(60, "B"),
    "business days without Good Friday and Easter Monday": without(table(60, "B", "2024-03-01"), 20, 21),
    "month ends": table(60, "ME"),
    "quarters": table(60, "QS").to_period("Q"),
    "weeks that end on Wednesday": table(60, "W-WED"),
    "years": table(60, "YE"),
    "every ten minutes": table(60, "10min"),
    "spans of time": table(60).set_axis(pd.timedelta_range(0, periods=60, freq="min"), axis=0),
}


@pytest.mark.parametrize("X", CALENDARS.values(), ids=CALENDARS)
def test_calendars_have_no_gaps(X):
    y = next_load(X)
    fitted = model().fit(X, y)
    assert list(fitted.predict(X).index) == list(X.index[8:])
    assert fitted.history == {
        **model().fit(X.to_numpy(), y.to_numpy()).history,
        "seconds": fitted.history["seconds"],
    }
    assert len(SequenceDataset(X, y, 8)) == len(X) - 8


def test_windows_count_rows_so_their_table_is_not_sorted_behind_ones_back():
    X = table(60)
    with pytest.raises(ValueError, match=r"rows of X are not in the order of time; use X\.sort_index\(\)"):
        SequenceDataset(X[::-1], next_load(X)[::-1], 8)


# --- what is no number ----------------------------------------------------------------------

HOURS = pd.date_range("2024-01-01", periods=60, freq="h")
NO_NUMBERS = {
    "text": (
        {"d": "hello"},
        r"column 'd' holds text, such as 'hello' in row 0 \(2024-01-01 00:00:00\); encode",
    ),
    "text in one row": ({"d": [1.0] * 59 + ["?"]}, r"column 'd' holds text, such as '\?' in row 59 \("),
    "categories": ({"d": pd.Categorical(["u"] * 60)}, "column 'd' holds text, such as 'u' in row 0"),
    "two columns": ({"d": "x", "e": "y"}, "columns 'd', 'e' hold text, such as 'x'.*encode or drop them"),
    "dates": ({"d": HOURS}, "column 'd' holds dates and times; put them into the index"),
    "dates of a zone": ({"d": HOURS.tz_localize("UTC")}, "column 'd' holds dates and times"),
    "dates as objects": ({"d": HOURS.astype(object)}, "column 'd' holds dates and times"),
    "spans": ({"d": HOURS - HOURS[0]}, "column 'd' holds spans of time"),
    "complex": ({"d": 1j}, "column 'd' holds complex numbers"),
    "no value": (
        {"d": pd.array([1] * 59 + [None], dtype="Int64")},
        r"row 59 \(.*, column 'd' is <NA>; fill",
    ),
    "none": ({"d": [1.0] * 59 + [None]}, r"row 59 \(.*, column 'd' is nan; fill"),
}


@pytest.mark.parametrize(("columns", "said"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_a_column_of_no_numbers_is_named(columns, said):
    X = table(60)
    with pytest.raises(ValueError, match=said):
        model().fit(X.assign(**columns), next_load(X))
    with pytest.raises(ValueError, match=said):
        SequenceDataset(X.assign(**columns), next_load(X), 8)


def test_dates_alone_are_no_numbers_either():
    """numpy would make nanoseconds since 1970 of them."""
    X = table(60)
    said = "holds dates and times"
    for bad in (pd.DataFrame({"d": HOURS}, index=HOURS), HOURS.to_numpy()[:, None], list(HOURS)):
        with pytest.raises(ValueError, match=f"X holds something that is no number: .*{said}"):
            model().fit(bad, next_load(X).to_numpy())
    with pytest.raises(ValueError, match=f"y holds something that is no number: it {said}"):
        model().fit(X, pd.Series(HOURS, index=HOURS))


# --- labels ---------------------------------------------------------------------------------


def classes(**other) -> list:
    labels = ["up", "down"] * 30
    for row, label in other.items():
        labels[int(row[1:])] = label
    return labels


LABELS = {
    "none": (classes(r7=None), r"row 7 has no label \(None\)"),
    "the first is none": (classes(r0=None), r"row 0 has no label \(None\)"),
    "nan": (classes(r7=float("nan")), r"row 7 has no label \(nan\)"),
    "pandas' NA": (pd.array(classes(r7=None), dtype="string"), r"row 7 has no label \(<NA>\)"),
    "none among numbers": (pd.Series([0, 1] * 29 + [None, 1]).to_numpy(), r"row 58 has no label \(nan\)"),
    "a fraction": (classes(r7=0.5), r"row 7 is 0\.5; labels are text or whole numbers"),
    "two kinds": (classes(r7=1), r"row 7 is 1, but row 0 is 'up'; labels are"),
}


@pytest.mark.parametrize(("labels", "said"), LABELS.values(), ids=LABELS)
def test_the_row_of_a_bad_label_is_blamed(labels, said):
    chooser = model(task="classification")
    with pytest.raises(ValueError, match=f"^y: {said}"):
        chooser.fit(table(60).to_numpy(), labels)
    good = classes()
    with pytest.raises(ValueError, match=f"^y_val: {said}"):
        chooser.fit(table(60).to_numpy(), good, table(60).to_numpy(), labels)


def test_a_label_is_blamed_with_its_date():
    labels = pd.Series(classes(r7=None), index=HOURS)
    with pytest.raises(ValueError, match=r"^y: row 7 \(2024-01-01 07:00:00\) has no label"):
        model(task="classification").fit(table(60), labels)


# --- numbers beyond all measure -------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-200, 1e39, 1e100])
def test_tables_in_a_tiny_or_huge_unit_are_scaled_like_any_other(size):
    X = table()
    y = next_load(X)
    expected = model().fit(X, y)
    same = model().fit(X * size, y * size)
    assert same.history["val_mse"] == pytest.approx(expected.history["val_mse"], rel=1e-4)
    np.testing.assert_allclose(same.predict(X * size) / size, expected.predict(X), rtol=1e-4)


def test_numbers_too_large_to_square_are_refused_by_name():
    X = table()
    y = next_load(X)
    one = X.copy()
    one.iloc[100, 1] = 1e200
    for bad, values, said in (
        (X * 1e200, y, "X: the values of column 'a' are too large to be scaled; write them in a larger unit"),
        (one, y, "X: the values of column 'b' are too large"),
        (X, y * 1e200, "y: the values of column 'load' are too large"),
        (X.to_numpy() * 1e200, y.to_numpy(), "X: the values of column 0 are too large"),
    ):
        with pytest.raises(ValueError, match=said):
            model().fit(bad, values)


@pytest.mark.parametrize("size", [1e200, -1e200, 1.7e308])
def test_a_number_that_single_precision_cannot_hold_is_refused_where_it_is_met(size):
    X = table()
    y = next_load(X)
    fitted = model().fit(X, y)
    late = X.copy()
    late.iloc[390, 1] = size
    said = r"row 390 \(2024-01-17 06:00:00\), column 'b' is .*; correct it, drop the row, or give it in"
    for meet in (fitted.predict, fitted.prepare_sequences, lambda table: model().fit(table, y)):
        with pytest.raises(ValueError, match=f"X: {said}"):
            meet(late)
    targets = y.copy()
    targets.iloc[390] = size
    with pytest.raises(ValueError, match=r"y: row 390 \(.*, column 'load' is "):
        model().fit(X, targets)
    with pytest.raises(ValueError, match=f"X: {said}"):
        SequenceDataset(late, y, 8)
    last = X.copy()
    last.iloc[-1] = size  # read by no window
    pd.testing.assert_series_equal(fitted.predict(last), fitted.predict(X))


@pytest.mark.parametrize("size", [1e39, 1e200])
def test_a_huge_number_that_is_always_the_same_is_refused(size):
    X = table()
    with pytest.raises(ValueError, match=r"^y: .*'load'.* (larger|another) unit"):
        model().fit(X, pd.Series(size, index=X.index, name="load"))
