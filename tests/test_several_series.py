"""A search on several series of one file, with columns whose future is known: through the command line."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from nas_system.data.loading import read_for
from nas_system.ensembles.choice import chosen_by, intervals_behind
from nas_system.predict import build_parser
from nas_system.space import ForecastingTask
from nas_system.tasks.forecasting import describe, summarize
from nas_system.tasks.saved_forecaster import load_forecaster
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint

Cli = Callable[..., subprocess.CompletedProcess[str]]

FIRST, DAYS, HORIZON = date(2024, 1, 1), 150, 3
SHOPS = {"Ulm": (0, DAYS), "Bonn": (20, DAYS), "Kiel": (0, DAYS - 2), "New": (DAYS - 60, DAYS)}
"""The first day of each shop, and the day after its last one. The last is too young to be trained on."""
BASE = """
model: {family: linear}
data: {features: S, seq_len: 14, batch_size: 64}
training: {lr: 0.01, max_epochs: 1, patience: 1}
"""
SEARCH = ("--base-config", "base.yaml", "--repeat-baseline", "0", "--proposer", "random_search", "--no-refit")
TASK = ("--dataset", "shops.csv", "--target", "sales", "--pred-len", str(HORIZON), "--series-column", "shop")


def sold(shop: str, day: int) -> float:
    level = 100.0 * (1 + list(SHOPS).index(shop))
    week = 1 + 0.3 * math.sin(2 * math.pi * day / 7)
    return round(level * (week + 0.5 * promo(shop, day)) + random.Random(day).gauss(0, 2), 2)


def promo(shop: str, day: int) -> int:
    """On some days, as by chance: nothing before tells of them."""
    return int(random.Random(f"{shop} {day}").random() < 0.15)


def day_of(number: int) -> str:
    return str(FIRST + timedelta(days=number))


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def rows_of_shops() -> list[Sequence[object]]:
    """Rows day by day, the shops among each other."""
    return [
        (day_of(day), shop, sold(shop, day), promo(shop, day))
        for day in range(DAYS)
        for shop, (first, end) in SHOPS.items()
        if first <= day < end
    ]


def promos_ahead(shops: Sequence[str] = tuple(SHOPS), days: int = HORIZON) -> list[Sequence[object]]:
    return [
        (day_of(end + ahead), shop, promo(shop, end + ahead))
        for shop, (_, end) in SHOPS.items()
        if shop in shops
        for ahead in range(days)
    ]


def forecast_of(path: Path) -> dict[str, dict[str, float]]:
    """Return the forecasts by shop and date."""
    found: dict[str, dict[str, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["shop"], {})[row["date"]] = float(row["sales"])
    return found


def record(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def searched(run_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which four shops were searched on, with their promotions."""
    folder = tmp_path_factory.mktemp("shops")
    write(folder / "shops.csv", ("date", "shop", "sales", "promo"), rows_of_shops())
    (folder / "base.yaml").write_text(BASE)
    done = run_cli("nas_agent_graph.run", *SEARCH, *TASK, "--future", "promo", "--max-runs", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def predict(run_cli: Cli, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return run_cli("nas_agent_graph.cli", "predict", *flags, cwd=folder)


def test_describe_says_which_series_there_are_and_which_is_left_out(run_cli: Cli, searched: Path) -> None:
    done = run_cli("nas_agent_graph.cli", "describe", *TASK, "--future", "promo", cwd=searched)
    assert done.returncode == 0, done.stderr
    assert "several   3 series of 130 to 150 rows: Ulm, Kiel, Bonn" in done.stdout
    assert "left out  series 'New' has 0 training rows, and not 23: it is not trained on" in done.stdout
    assert "known     promo: for the future, too" in done.stdout
    assert "seasonal-7" in done.stdout


def test_every_run_has_the_score_of_every_series(searched: Path) -> None:
    metrics = record(searched / "runs" / "run_0001" / "metrics.json")
    by_series = metrics["accuracy"]["val"]["by_series"]
    assert set(by_series) == {"Ulm", "Bonn", "Kiel"}
    # The validation part has as many windows in each of them.
    assert metrics["val_mse"] == pytest.approx(sum(mse for mse, _ in by_series.values()) / 3, rel=1e-4)
    masses = [mase for _, mase in by_series.values()]
    assert metrics["accuracy"]["val"]["mase"] == pytest.approx(sum(masses) / 3, rel=1e-4)


def test_the_search_recommends_and_scores_over_all_series(searched: Path) -> None:
    recommended = record(searched / "runs" / "recommended.json")
    test = recommended["evaluation"]["as_searched"]["test"]
    assert set(test["accuracy"]["by_series"]) == {"Ulm", "Bonn", "Kiel"}
    facts = record(searched / "runs" / "task_facts.json")
    assert test["windows"] == facts["sizes"]["test"]
    assert facts["measured"]["series"]["count"] == 3


def test_the_model_card_says_what_it_is_about_and_how_to_use_it(searched: Path) -> None:
    card = (searched / "model_card.md").read_text()
    assert "- 3 series, told apart by shop; one model for all" in card
    assert "- Known for the future: promo" in card
    assert "Tried on these series alone" in card and "no more than `promo`" in card
    assert "nas predict --future-csv ahead.csv --plot forecast.png" in card and "--export" not in card


def test_show_names_the_best_and_the_worst_series(run_cli: Cli, searched: Path) -> None:
    done = run_cli("nas_agent_graph.cli", "show", "run_0001", cwd=searched)
    assert done.returncode == 0, done.stderr
    assert "3 series" in done.stdout and "worst" in done.stdout


def test_a_forecast_lists_what_it_has_to_know(run_cli: Cli, searched: Path) -> None:
    done = predict(run_cli, searched)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "'promo' has none for 3 of 3 steps, from 2024-05-30 to 2024-06-01" in done.stderr
    assert "--future-csv FILE" in done.stderr


def test_all_series_are_forecast_after_their_own_last_day(run_cli: Cli, searched: Path) -> None:
    write(searched / "ahead.csv", ("date", "shop", "promo"), promos_ahead())
    done = predict(run_cli, searched, "--future-csv", "ahead.csv", "--plot", "f.png")
    assert done.returncode == 0, done.stderr
    found = forecast_of(searched / "forecast.csv")
    assert {shop: list(days) for shop, days in found.items()} == {
        shop: [day_of(end + ahead) for ahead in range(HORIZON)] for shop, (_, end) in SHOPS.items()
    }
    for shop, days in found.items():
        level = 100.0 * (1 + list(SHOPS).index(shop))
        assert all(0.4 * level < value < 2.2 * level for value in days.values()), (shop, days)
    assert (searched / "f.png").read_bytes()[:4] == b"\x89PNG"


def test_a_promotion_moves_the_forecast_of_its_day_alone(run_cli: Cli, searched: Path) -> None:
    def with_promo(days: Mapping[int, int]) -> dict[str, float]:
        rows = [(day_of(DAYS + ahead), "Ulm", days.get(ahead, 0)) for ahead in range(HORIZON)]
        others = promos_ahead([shop for shop in SHOPS if shop != "Ulm"])
        write(searched / "ahead.csv", ("date", "shop", "promo"), [*rows, *others])
        done = predict(
            run_cli, searched, "--future-csv", "ahead.csv", "--out", "moved.csv", "--intervals", "none"
        )
        assert done.returncode == 0, done.stderr
        return forecast_of(searched / "moved.csv")["Ulm"]

    without, second = with_promo({}), with_promo({1: 1})
    assert second[day_of(DAYS)] == without[day_of(DAYS)]
    assert second[day_of(DAYS + 2)] == without[day_of(DAYS + 2)]
    # The promotions of the file add half of the level, 50.
    assert second[day_of(DAYS + 1)] - without[day_of(DAYS + 1)] == pytest.approx(50, abs=25)


def test_rows_with_empty_targets_are_the_known_future(run_cli: Cli, searched: Path) -> None:
    write(searched / "ahead.csv", ("date", "shop", "promo"), promos_ahead())
    rows = [*rows_of_shops(), *((day, shop, "", value) for day, shop, value in promos_ahead())]
    write(searched / "longer.csv", ("date", "shop", "sales", "promo"), rows)
    done = predict(run_cli, searched, "--csv", "longer.csv", "--out", "longer_forecast.csv")
    assert done.returncode == 0, done.stderr
    again = predict(run_cli, searched, "--future-csv", "ahead.csv", "--out", "ahead_forecast.csv")
    assert again.returncode == 0, again.stderr
    assert (searched / "longer_forecast.csv").read_text() == (searched / "ahead_forecast.csv").read_text()


def test_a_series_without_its_future_is_left_out_and_said(run_cli: Cli, searched: Path) -> None:
    write(searched / "ahead.csv", ("date", "shop", "promo"), promos_ahead(["Ulm", "Bonn"]))
    done = predict(run_cli, searched, "--future-csv", "ahead.csv", "--out", "some.csv")
    assert done.returncode == 0, done.stderr
    assert set(forecast_of(searched / "some.csv")) == {"Ulm", "Bonn"}
    assert "not forecast: " in done.stdout and "series 'Kiel'" in done.stdout


@pytest.mark.parametrize(
    ("shop", "first", "words"),
    [
        (
            "Ulm",
            0,
            "its rows are of 2024-01-01 to 2024-01-03, and the forecast is of 2024-05-30 to 2024-06-01",
        ),
        ("Bern", DAYS, "none of its series is one of those to forecast"),
    ],
    ids=["past days", "other shop"],
)
def test_a_file_of_other_days_or_shops_is_refused(
    run_cli: Cli, searched: Path, shop: str, first: int, words: str
) -> None:
    rows = [(day_of(first + ahead), shop, 1) for ahead in range(HORIZON)]
    write(searched / "ahead.csv", ("date", "shop", "promo"), rows)
    done = predict(run_cli, searched, "--future-csv", "ahead.csv")
    assert done.returncode == 2 and words in done.stderr


def test_a_series_that_was_not_trained_on_is_scaled_by_its_own_rows(run_cli: Cli, searched: Path) -> None:
    rows = [row for row in rows_of_shops() if row[1] == "Ulm"]
    other = [(day, "Elsewhere", 1_000 * float(str(value)), known) for day, _, value, known in rows]
    write(searched / "other.csv", ("date", "shop", "sales", "promo"), [*rows, *other])
    ahead = [(day, shop, value) for shop in ("Ulm", "Elsewhere") for day, _, value in promos_ahead(["Ulm"])]
    write(searched / "ahead.csv", ("date", "shop", "promo"), ahead)
    done = predict(run_cli, searched, "--csv", "other.csv", "--future-csv", "ahead.csv", "--out", "o.csv")
    assert done.returncode == 0, done.stderr
    found = forecast_of(searched / "o.csv")
    for day, value in found["Ulm"].items():
        assert found["Elsewhere"][day] == pytest.approx(1_000 * value, rel=0.1)
    assert "series 'Elsewhere' had no part in the training" in done.stdout


def test_a_baseline_forecasts_every_series_without_a_known_future(run_cli: Cli, searched: Path) -> None:
    done = predict(run_cli, searched, "--run", "seasonal-7", "--out", "naive.csv", "--intervals", "none")
    assert done.returncode == 0, done.stderr
    found = forecast_of(searched / "naive.csv")
    for shop, (_, end) in SHOPS.items():
        assert [round(value, 2) for value in found[shop].values()] == [
            sold(shop, end + ahead - 7) for ahead in range(HORIZON)
        ]


def test_the_weights_behind_the_intervals_are_loaded_once_for_all_series(
    searched: Path, tmp_path: Path
) -> None:
    rows = [*rows_of_shops(), *((day, shop, "", value) for day, shop, value in promos_ahead())]
    write(tmp_path / "longer.csv", ("date", "shop", "sales", "promo"), rows)
    content = (tmp_path / "longer.csv").read_bytes()
    workspace = shutil.copytree(searched, tmp_path / "copy")
    arguments = build_parser("nas predict").parse_args(["--workspace", str(workspace), "--device", "cpu"])
    chosen = chosen_by(arguments)
    with_intervals = intervals_behind(chosen, arguments)
    shutil.rmtree(workspace)
    for series in read_for(chosen.forecaster.task, content, "longer.csv")[:3]:
        forecast, notes = with_intervals(chosen.forecaster.forecast(series), series)
        assert set(forecast.intervals) == {80, 90}, notes


def test_weights_of_ten_thousand_series_can_be_read(searched: Path, tmp_path: Path) -> None:
    run = shutil.copytree(searched / "runs" / "run_0000", tmp_path / "run")
    checkpoint = load_checkpoint(run / "best_model.pth")
    scalers = {f"{number:0400}": checkpoint["scaler"] for number in range(10_000)}
    save_checkpoint(run / "best_model.pth", checkpoint | {"scalers": scalers})
    (run / "metrics.json").unlink()
    assert len(load_forecaster(run, "cpu").metadata.scalers) == 10_000


def test_a_name_of_any_characters_stays_on_its_line(tmp_path: Path) -> None:
    names = ("new\nline", "bell\x07", "\x1b[31mred", "x" * 300)
    rows = [(day_of(day), name, sold("Ulm", day)) for name in names for day in range(60)]
    write(tmp_path / "names.csv", ("date", "shop", "sales"), rows)
    task = ForecastingTask(
        dataset=str(tmp_path / "names.csv"), targets=("sales",), pred_len=3, series_columns=("shop",)
    )
    lines = summarize(describe(task, None))
    assert all(line.isprintable() for line in lines), lines
    assert f"several   4 series 60 rows each: new line, bell, red, {36 * 'x'} ..." in lines


def test_the_search_goes_on_with_the_same_series(run_cli: Cli, searched: Path) -> None:
    done = run_cli("nas_agent_graph.run", "--max-runs", "3", "--proposer", "random_search", cwd=searched)
    assert done.returncode == 0, done.stderr
    other = run_cli("nas_agent_graph.run", "--max-runs", "4", "--series-column", "date", cwd=searched)
    assert other.returncode == 2 and "task" in other.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--backtest", "2"), "--backtest is for one series"),
        (("--export", "m.onnx"), "a graph holds one scale"),
        (("--future-csv", "gone.csv"), "gone.csv cannot be read"),
    ],
    ids=["backtest", "export", "no file"],
)
def test_what_cannot_be_done_with_several_series_is_said(
    run_cli: Cli, searched: Path, flags: tuple[str, ...], words: str
) -> None:
    write(searched / "ahead.csv", ("date", "shop", "promo"), promos_ahead())
    (searched / "refused.csv").unlink(missing_ok=True)
    known = () if "--future-csv" in flags else ("--future-csv", "ahead.csv")
    done = predict(run_cli, searched, *flags, *known, "--out", "refused.csv")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert words in done.stderr
    assert (searched / "refused.csv").exists() == ("--export" in flags)


def test_holidays_are_known_without_a_file(run_cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("holidays")
    rows = [(day_of(day), sold("Ulm", day)) for day in range(DAYS)]
    write(tmp_path / "one.csv", ("date", "sales"), rows)
    (tmp_path / "base.yaml").write_text(BASE)
    task = ("--dataset", "one.csv", "--target", "sales", "--pred-len", "3", "--holidays", "DE,AT")
    done = run_cli("nas_agent_graph.run", *SEARCH, *task, "--max-runs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert record(tmp_path / "runs" / "task_facts.json")["measured"]["known"] == ["holiday_DE", "holiday_AT"]
    done = predict(run_cli, tmp_path)
    assert done.returncode == 0, done.stderr
    refused = predict(run_cli, tmp_path, "--future-csv", "one.csv")
    assert refused.returncode == 2 and "no columns whose future is known" in refused.stderr
