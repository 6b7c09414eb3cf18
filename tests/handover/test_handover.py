"""What a search hands over, through the commands: an ensemble, refits, a plain forecast, intervals."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from nas_system.data.csv_file import parse_csv
from nas_system.ensembles.forecaster import load_ensemble
from nas_system.nas_agent.recommended import Ensemble, Recommended, read_ensemble, read_recommended
from nas_system.tasks.saved_forecaster import load_forecaster

pytestmark = pytest.mark.timeout(400)

Cli = Callable[..., subprocess.CompletedProcess[str]]

ROWS = 1_400
AGAIN = (
    *("--max-runs", "4", "--repeat-base", "0", "--repeats", "3", "--proposer", "random_search"),
    *("--steps-per-run", "30", "--device", "cpu", "--threads", "1"),
)
FLAGS = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--split", "0.6,0.15,0.15"),
    *("--base-config", "base.json", *AGAIN),
)
BASE = {
    "model": {"family": "linear"},
    "data": {"seq_len": 24, "batch_size": 64, "features": "S"},
    "training": {"max_epochs": 3, "lr": 0.01},
}


def write_series(path: Path, rows: int = ROWS) -> None:
    steps, noise = np.arange(rows), np.random.default_rng(5).normal(size=rows)
    values = 50 + 8 * np.sin(2 * np.pi * steps / 24) + 3 * np.sin(2 * np.pi * steps / 168) + noise
    dates = np.datetime64("2024-01-01T00:00", "m") + 60 * steps
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("date", "load"))
        writer.writerows((str(date), f"{value:.4f}") for date, value in zip(dates, values, strict=True))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, run_cli: Cli) -> Path:
    workspace = tmp_path_factory.mktemp("handed")
    write_series(workspace / "series.csv")
    (workspace / "base.json").write_text(json.dumps(BASE))
    done = run_cli("nas_agent_graph.run", *FLAGS, cwd=workspace, timeout_s=380)
    assert done.returncode == 0, done.stderr
    (workspace / "said.txt").write_text(done.stdout)
    return workspace


@pytest.fixture
def workspace(searched: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched, tmp_path / "copy")
    return tmp_path / "copy"


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_search_says_what_it_recommends_and_what_that_costs(searched: Path) -> None:
    said, known = (searched / "said.txt").read_text(), read_recommended(searched)
    assert f"Recommended: {known.recommended} (val_mse " in said
    assert "refit: " in said and "of the search's (--no-refit leaves them out)" in said
    assert "refitted on train and validation part." in said
    assert "80 % intervals held " in said
    card = (searched / "model_card.md").read_text()
    assert known.recommended in card and "For forecasts its runs were trained again, on all rows." in card


def test_every_member_has_refits_through_each_part_and_their_rows_are_the_parts(searched: Path) -> None:
    known = read_recommended(searched)
    facts = json.loads((searched / "runs/task_facts.json").read_text())
    runs = [member.name for member in known.members if member.kind == "run"]
    assert runs
    for part in ("val", "test", "hold_out"):
        assert set(known.refits[part]) == set(runs)
        for training in (one for trainings in known.refits[part].values() for one in trainings):
            forecaster = load_forecaster(searched / training.folder, "cpu", sha256=training.sha256)
            assert forecaster.metadata.trained_until == facts["measured"]["split"][part][1]
            metrics = json.loads((searched / training.folder / "metrics.json").read_text())
            assert metrics["through"] == part
            # The same number of passes over more windows.
            run = json.loads((searched / training.folder / "../../metrics.json").read_text())
            if run["steps"]:
                growth = metrics["windows"] / (facts["measured"]["split"]["train"][1] - 24 - 4 + 1)
                per_epoch = run["steps"] / run["epochs"]
                assert metrics["steps"] / metrics["epochs"] == pytest.approx(per_epoch * growth, rel=0.35)


def test_the_scaling_of_a_refit_is_that_of_the_rows_it_learned_from(searched: Path) -> None:
    known = read_recommended(searched)
    values = np.array([float(row["load"]) for row in rows_of(searched / "series.csv")])
    for part in ("val", "hold_out"):
        (training, *_), *_ = known.refits[part].values()
        metadata = load_forecaster(searched / training.folder, "cpu").metadata
        assert metadata.scaler["mean"][0] == pytest.approx(values[: metadata.trained_until].mean())


def test_the_scores_are_those_of_the_forecasts_of_its_members(searched: Path) -> None:
    known = read_recommended(searched)
    facts = json.loads((searched / "runs/task_facts.json").read_text())
    std = facts["measured"]["scaler"]["std"][0]
    values = np.array([float(row["load"]) for row in rows_of(searched / "series.csv")])
    first, end = facts["measured"]["split"]["test"]
    origins = range(first, end - 4 + 1)
    truth = np.stack([values[origin : origin + 4] for origin in origins])
    refit = known.refitted("val")
    assert refit is not None
    cases: tuple[tuple[Literal["as_searched", "refitted"], Ensemble, int], ...] = (
        ("as_searched", known, facts["measured"]["split"]["train"][1]),
        ("refitted", refit, first),
    )
    for kind, ensemble, rows in cases:
        series = parse_csv((searched / "series.csv").read_bytes(), "series.csv")
        forecaster = load_ensemble(ensemble, searched, known.recommended, "cpu")
        found = forecaster.forecast_windows(series, origins, rows)[:, :, 0]
        errors = (found - truth) / std
        scores = known.scores(kind, "test")
        assert scores["mse"] == pytest.approx(np.square(errors).mean(), rel=1e-5)
        assert scores["windows"] == len(origins)
        assert scores["accuracy"]["mae"] == pytest.approx(np.abs(found - truth).mean(), rel=1e-5)


def test_predict_takes_what_is_recommended_refitted_and_says_so(workspace: Path, run_cli: Cli) -> None:
    known = read_recommended(workspace)
    done = run_cli("nas_system.predict", "--plot", "forecast.png", cwd=workspace)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"the search recommends {known.recommended}, refitted on all rows: {known.why}" in done.stdout
    rows = rows_of(workspace / "forecast.csv")
    assert list(rows[0]) == ["date", "load", "load_lo_80", "load_hi_80", "load_lo_90", "load_hi_90"]
    for row in rows:
        low, high = ([float(row[f"load_{side}_{level}"]) for level in (90, 80)] for side in ("lo", "hi"))
        assert low == sorted(low) and high == sorted(high, reverse=True)
        assert low[1] <= float(row["load"]) <= high[1]
    refit = known.refitted("hold_out")
    assert refit is not None
    expected = load_ensemble(refit, workspace, "e", "cpu")
    series = parse_csv((workspace / "series.csv").read_bytes(), "series.csv")
    assert [float(row["load"]) for row in rows] == pytest.approx(
        expected.forecast(series).values[:, 0].tolist(), abs=1e-4
    )
    old = run_cli("nas_system.predict", "--as-searched", "--out", "old.csv", cwd=workspace)
    assert "refitted" not in old.stdout and rows_of(workspace / "old.csv") != rows


def test_a_changed_member_is_refused_by_name(workspace: Path, run_cli: Cli) -> None:
    known = read_recommended(workspace)
    trained = known.refits["hold_out"]
    name, (training, *_) = next(iter(trained.items()))
    with open(workspace / training.folder / "best_model.pth", "ab") as file:
        file.write(b"x")
    done = run_cli("nas_system.predict", cwd=workspace)
    assert done.returncode == 2
    assert f"error: {name}: " in done.stderr and "Traceback" not in done.stderr
    assert run_cli("nas_system.predict", "--as-searched", cwd=workspace).returncode == 0


@pytest.mark.parametrize(
    "folder", ["/etc", "runs/../../outside", "runs/run_0001/refits/../x", "runs/run_0001\n", ""]
)
def test_no_member_leads_out_of_the_workspace(workspace: Path, run_cli: Cli, folder: str) -> None:
    path = workspace / "runs/recommended.json"
    record = json.loads(path.read_text())
    member = next(one for one in record["members"] if one["kind"] == "run")
    member["trainings"][0]["folder"] = folder
    path.write_text(json.dumps(record))
    done = run_cli("nas_system.predict", cwd=workspace)
    assert (done.returncode, done.stdout) == (2, "")
    assert "recommended.json: members.0.trainings.0.folder: " in done.stderr
    path.unlink()
    done = run_cli("nas_system.predict", cwd=workspace)
    assert done.returncode == 0 and "is the best run: " in done.stdout


def test_the_same_command_trains_nothing_again(workspace: Path, run_cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace.glob("runs/run_*/**/best_model.pth")}
    done = run_cli("nas_agent_graph.run", *AGAIN, cwd=workspace, timeout_s=380)
    assert done.returncode == 0, done.stderr
    assert "refit: " not in done.stdout and "Recommended: " in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_killed_agent_goes_on_with_its_refits(workspace: Path, run_cli: Cli) -> None:
    for path in workspace.glob("runs/run_*/refits"):
        shutil.rmtree(path)
    (workspace / "runs/recommended.json").unlink()
    command = [sys.executable, "-m", "nas_agent_graph.run", *AGAIN]
    with open(workspace / "killed.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=workspace, stdout=log, stderr=log)
        deadline = time.monotonic() + 200
        while not list(workspace.glob("runs/run_*/refits/*/exit.json")):
            assert process.poll() is None and time.monotonic() < deadline, "no refit has ended"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    ended = {path: path.read_text() for path in workspace.glob("runs/run_*/refits/*/exit.json")}
    done = run_cli("nas_agent_graph.run", *AGAIN, cwd=workspace, timeout_s=380)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_text() for path in ended} == ended, "a refit was trained twice"
    assert read_recommended(workspace).refitted("hold_out") is not None


def test_no_refit_begins_for_which_the_search_has_no_time_left(workspace: Path, run_cli: Cli) -> None:
    searched = read_recommended(workspace)
    for path in workspace.glob("runs/run_*/refits"):
        shutil.rmtree(path)
    (workspace / "runs/recommended.json").unlink()
    # Every run says that it took an hour, and half an hour is left.
    for path in workspace.glob("runs/run_????/metrics.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"compute_sec": 3600.0}))
    done = run_cli("nas_agent_graph.run", *AGAIN, "--max-hours", "0.05", cwd=workspace, timeout_s=380)
    assert done.returncode == 0 and not list(workspace.glob("runs/run_*/refits"))
    known = read_recommended(workspace)
    assert known.not_begun >= 3 and not known.refits and known.members == searched.members
    assert f"{known.not_begun} of {known.not_begun} refits were not begun" in done.stderr
    assert "as searched" in done.stdout and "refitted on" not in done.stdout
    done = run_cli("nas_agent_graph.run", *AGAIN, cwd=workspace, timeout_s=380)
    assert done.returncode == 0, done.stderr
    known = read_recommended(workspace)
    assert not known.not_begun and known.refitted("hold_out") is not None
    took = sum(
        json.loads(path.read_text())["compute_sec"]
        for path in workspace.glob("runs/run_*/refits/*/metrics.json")
    )
    assert known.cost.refit_sec == pytest.approx(took)
    assert known.cost.evaluation_sec > 0


def test_without_refits_the_searched_weights_forecast(workspace: Path, run_cli: Cli) -> None:
    for path in workspace.glob("runs/run_*/refits"):
        shutil.rmtree(path)
    (workspace / "runs/recommended.json").unlink()
    done = run_cli("nas_agent_graph.run", *AGAIN, "--no-refit", cwd=workspace, timeout_s=380)
    assert done.returncode == 0 and not list(workspace.glob("runs/run_*/refits"))
    forecast = run_cli("nas_system.predict", cwd=workspace)
    assert forecast.returncode == 0 and "refitted" not in forecast.stdout
    assert "80 % interval" not in forecast.stdout and "the latest intervals held" in forecast.stdout


def test_later_rows_of_another_file_are_forecast_with_intervals(workspace: Path, run_cli: Cli) -> None:
    write_series(workspace / "later.csv", ROWS + 200)
    done = run_cli("nas_system.predict", "--csv", "later.csv", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "the latest intervals held" in done.stdout
    assert "load_lo_90" in rows_of(workspace / "forecast.csv")[0]


def test_what_does_not_belong_together_is_refused(workspace: Path, run_cli: Cli) -> None:
    path = workspace / "runs/recommended.json"
    record = json.loads(path.read_text())
    run = next(one for one in record["members"] if one["kind"] == "run")
    for changes in (
        {"recommended": "run_9999"},
        {"recommended": "ensemble", "members": [run, run]},
        {"recommended": "run_0009", "members": [{**run, "name": "run_0009"}]},
        {"members": [{**run, "weight": float("nan")}]},
    ):
        path.write_text(json.dumps(record | changes))
        done = run_cli("nas_system.predict", cwd=workspace)
        assert (done.returncode, done.stdout) == (2, "") and "let the search end again" in done.stderr
        assert run_cli("nas_agent_graph.show", cwd=workspace).returncode == 0
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert run_cli("nas_system.predict", cwd=workspace).returncode == 2


def test_no_two_files_that_are_written_have_one_name(workspace: Path, run_cli: Cli) -> None:
    done = run_cli("nas_system.predict", "--out", "a.png", "--plot", "a.png", cwd=workspace)
    assert done.returncode == 2 and "name the same file" in done.stderr
    done = run_cli("nas_system.predict", "--export", "model.csv", cwd=workspace)
    assert done.returncode == 2 and not (workspace / "forecast.csv").exists()


def test_a_refit_whose_weights_are_gone_is_named(workspace: Path, run_cli: Cli) -> None:
    for path in workspace.glob("runs/run_*/refits/hold_out*/best_model.pth"):
        path.unlink()
    done = run_cli("nas_system.predict", cwd=workspace)
    assert done.returncode == 2 and "are gone; forecast --as-searched" in done.stderr


@pytest.mark.parametrize("levels", ["", "0", "80,80", "100", "eighty", "10,20,30,40,50,60"])
def test_levels_that_are_none_are_refused(workspace: Path, run_cli: Cli, levels: str) -> None:
    done = run_cli("nas_system.predict", "--intervals", levels, cwd=workspace)
    assert done.returncode == 2 and "between 1 and 99" in done.stderr


def test_the_leaderboard_shows_the_ensemble(workspace: Path, run_cli: Cli) -> None:
    known = read_recommended(workspace)
    board = json.loads(run_cli("nas_agent_graph.show", "--json", cwd=workspace).stdout)
    assert board["recommended"]["recommended"] == known.recommended
    assert "Recommended: " in run_cli("nas_agent_graph.show", cwd=workspace, env={"COLUMNS": "200"}).stdout
    made = make_ensemble(workspace, known)
    board = json.loads(run_cli("nas_agent_graph.show", "--json", cwd=workspace).stdout)
    first = board["rows"][0]
    assert (first["name"], first["members"], first["val_mse"]) == ("ensemble", 2, made.val_score)
    text = run_cli("nas_agent_graph.show", cwd=workspace, env={"COLUMNS": "200"}).stdout
    assert "1    ensemble     mean of 2" in text
    assert run_cli("nas_agent_graph.report", cwd=workspace).returncode == 0
    assert '"members":2' in (workspace / "report.html").read_text().replace(" ", "")


def make_ensemble(workspace: Path, known: Recommended) -> Recommended:
    """Recommend the mean of a run and a baseline, so that the test does not hang on what the search found."""
    run = next(member for member in known.members if member.kind == "run")
    record: dict[str, Any] = known.model_dump(mode="json")
    baseline = {"name": "last-value", "kind": "baseline", "weight": 0.25, "trainings": []}
    members = [run.model_copy(update={"weight": 0.75}).model_dump(mode="json"), baseline]
    made = Recommended.model_validate(
        {**record, "recommended": "ensemble", "members": members, "val_score": 0.5}
    )
    (workspace / "runs/recommended.json").write_text(made.model_dump_json())
    ensemble = {
        name: made.model_dump(mode="json")[name] for name in ("schema_version", "why", "weights", "members")
    }
    (workspace / "ensemble.json").write_text(json.dumps(ensemble))
    return made


def test_the_mean_of_a_run_and_a_baseline_is_that_of_their_forecasts(workspace: Path, run_cli: Cli) -> None:
    known = read_recommended(workspace)
    made = make_ensemble(workspace, known)
    assert read_ensemble(workspace).names == made.names
    found = {}
    for name in ("ensemble", made.names[0], "last-value"):
        flags = ["--run", name, "--out", "f.csv", "--intervals", "none"]
        done = run_cli(
            "nas_system.predict", *flags, *(["--as-searched"] if name == "ensemble" else []), cwd=workspace
        )
        assert done.returncode == 0, done.stderr
        found[name] = np.array([float(row["load"]) for row in rows_of(workspace / "f.csv")])
    run = next(member for member in made.members if member.kind == "run")
    if len(run.trainings) == 1:
        expected = 0.75 * found[made.names[0]] + 0.25 * found["last-value"]
        assert found["ensemble"] == pytest.approx(expected, abs=1e-4)
    else:
        seeds = [load_forecaster(workspace / one.folder, "cpu") for one in run.trainings]
        series = parse_csv((workspace / "series.csv").read_bytes(), "series.csv")
        mean = np.mean([seed.forecast(series).values[:, 0] for seed in seeds], axis=0)
        assert found["ensemble"] == pytest.approx(0.75 * mean + 0.25 * found["last-value"], abs=1e-4)


def test_an_unfinished_or_missing_search_says_what_to_do(tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("nas_system.predict", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "holds no search with a finished run; name its folder by --workspace, or a run's by --run"
        in done.stderr
    )
    done = run_cli("nas_system.predict", "--run", "ensemble", cwd=tmp_path)
    assert done.returncode == 2 and "ensemble.json does not exist" in done.stderr
