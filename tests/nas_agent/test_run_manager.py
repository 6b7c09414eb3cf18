"""Run directories: names that stay inside, files spelled once, snapshots that read back."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pytest

from nas_system.config_io.config_file import named_config, read_config, render_config
from nas_system.errors import ConfigError
from nas_system.nas_agent.run_manager import RunPaths, get_run_dir, next_run_id, run_ids, snapshot_config
from nas_system.space import canonical_key


def test_a_run_directory_is_made_once_and_found_again(tmp_path: Path) -> None:
    runs = tmp_path / "deep" / "runs"
    assert get_run_dir("run_0000", runs) == runs / "run_0000"
    (runs / "run_0000" / "train.log").write_text("kept")
    assert get_run_dir("run_0000", runs).is_dir()
    assert (runs / "run_0000" / "train.log").read_text() == "kept"


def test_looking_does_not_create(tmp_path: Path) -> None:
    assert not get_run_dir("run_0000", tmp_path / "runs", create=False).exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("tag", ["run_0000", "a", "7", "my-run.2", "R" * 64])
def test_a_plain_tag_is_accepted(tag: str, tmp_path: Path) -> None:
    assert get_run_dir(tag, tmp_path).name == tag


@pytest.mark.parametrize(
    "tag",
    [
        *("", ".", "..", "../x", "../../x", "a/b", "a\\b", "/etc", "a/..", "a..b", ".hidden", "-rf", "_x"),
        *("run 1", "run\n", "run_0000\n", "\0", "run\0", "тест", "ｒun", "a" * 65, "~", "$HOME", "a:b", "*"),
    ],
)
@pytest.mark.fault(39)
def test_a_tag_that_could_lead_elsewhere_is_refused(tag: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(ConfigError, match="cannot name a run"):
        get_run_dir(tag, runs)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(39)
def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    inside = get_run_dir("run_0000", runs)
    outside.mkdir()
    (runs / "run_0001").symlink_to(outside)
    (runs / "run_0002").symlink_to(inside)
    (runs / "run_0003").symlink_to(tmp_path / "absent")
    for tag in ("run_0001", "run_0003"):
        for create in (True, False):
            with pytest.raises(ConfigError, match="link that leaves"):
                get_run_dir(tag, runs, create=create)
    assert get_run_dir("run_0002", runs).resolve() == inside.resolve()
    assert not (tmp_path / "absent").exists()


def test_runs_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    get_run_dir("run_0000", tmp_path / "runs")
    assert (tmp_path / "disk" / "run_0000").is_dir()


def test_a_file_in_the_way_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "run_0000").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        get_run_dir("run_0000", tmp_path)


def test_every_file_of_a_run_has_its_own_name_in_the_folder(tmp_path: Path) -> None:
    names = [name for name, value in vars(RunPaths).items() if isinstance(value, cached_property)]
    files = [getattr(RunPaths(tmp_path), name) for name in names if name != "earlier_origins"]
    files += RunPaths(tmp_path).earlier_origins
    assert {file.parent for file in files} == {tmp_path}
    assert len({file.name for file in files}) == len(files)
    assert {
        *("proposal.json", "transcript.jsonl", "config_used.py", "train.log", "history.json"),
        *("learning_curve.png", "predictions.png", "best_model.pth", "last.pth", "metrics.json"),
        *("exit.json", "proc.json", "error.json", "run.lock", "verdict.json"),
    } <= {file.name for file in files}


def test_the_next_id_follows_the_highest_number() -> None:
    assert next_run_id([]) == "run_0000"
    assert next_run_id(["run_0000", "run_0007", "run_0003"]) == "run_0008"
    assert next_run_id(["run_9999"]) == "run_10000"
    assert next_run_id(["trial", "run_x", "run_0002.bak", "xrun_0005"]) == "run_0000"


def test_runs_are_listed_by_number_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("run_10000", "run_0009", "run_0010", "run_0002.bak", "trial"):
        (tmp_path / name).mkdir()
    (tmp_path / "run_0001").write_text("a file")
    assert run_ids(tmp_path) == ["run_0009", "run_0010", "run_10000"]
    assert run_ids(tmp_path / "absent") == []


def test_a_snapshot_keeps_a_config_py_byte_for_byte(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_bytes("\ufeff# настройки\r\n".encode() + render_config(named_config("default")).encode())
    snapshot = snapshot_config(config, get_run_dir("run_0000", tmp_path / "runs"))
    assert snapshot == tmp_path / "runs" / "run_0000" / "config_used.py"
    assert snapshot.read_bytes() == config.read_bytes()
    assert [file.name for file in snapshot.parent.iterdir()] == ["config_used.py"]


def test_a_snapshot_of_yaml_is_rendered(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: {family: linear}\nseed: 5\n")
    snapshot = snapshot_config(config, tmp_path / "run_0000")
    assert snapshot.read_text().startswith('"""')
    again = read_config(snapshot)
    assert (canonical_key(again), again.seed) == (canonical_key(read_config(config)), 5)


def test_a_snapshot_of_itself_is_itself(tmp_path: Path) -> None:
    snapshot = tmp_path / "config_used.py"
    snapshot.write_text(render_config(named_config("default")))
    before = snapshot.read_bytes()
    assert snapshot_config(snapshot, tmp_path).read_bytes() == before


def test_what_cannot_be_read_is_not_kept(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("model = dict()")
    with pytest.raises(ConfigError, match="line 1"):
        snapshot_config(config, tmp_path / "run_0000")
    assert not (tmp_path / "run_0000").exists()
