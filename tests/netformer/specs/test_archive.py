"""The archive file: whole or refused, the same bytes for the same rows, a row only once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from nas_system.errors import ConfigError, StateError
from nas_system.netformer.specs.archive.archive_file import (
    HELD_OUT,
    TRAIN,
    Archive,
    Row,
    checksum_of,
    config_of,
    read_archive,
    write_archive,
)
from nas_system.netformer.specs.archive.library import SHIPPED
from nas_system.netformer.specs.model.examples import WORST, examples_of, scale_of
from nas_system.netformer.specs.model.vocabulary import build_vocabulary
from nas_system.space import active_values
from nas_system.space.run_config import ADDED


def test_an_archive_comes_back_as_it_was(tiny_archive: Archive, tmp_path: Path) -> None:
    write_archive(tmp_path / "a.gz", tiny_archive)
    again = read_archive(tmp_path / "a.gz")
    assert again.tasks == tiny_archive.tasks
    assert [row.values for row in again.rows] == [row.values for row in tiny_archive.rows]
    assert checksum_of(again) == checksum_of(tiny_archive)
    write_archive(tmp_path / "b.gz", again)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_the_parts_do_not_mix(tiny_archive: Archive) -> None:
    train, held_out = tiny_archive.of(TRAIN), tiny_archive.of(HELD_OUT)
    assert set(train.tasks) == {"t0", "t1", "t2"} and set(held_out.tasks) == {"t3"}
    assert {row.task for row in held_out.rows} == {"t3"}


def test_a_row_counts_once_and_the_latest_wins(tiny_archive: Archive) -> None:
    assert tiny_archive.with_rows_of(tiny_archive).rows == tiny_archive.rows
    better = Row("t0", tiny_archive.rows[0].values, 0.5)
    joined = tiny_archive.with_rows_of(Archive({}, (better,)))
    assert len(joined.rows) == len(tiny_archive.rows) and joined.rows[0].score == 0.5
    assert checksum_of(joined) != checksum_of(tiny_archive)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        gzip.compress(b"{}\n"),
        gzip.compress(b'{"kind":"header","schema":99,"space":"x","made_by":""}\n'),
        gzip.compress(b'{"kind":"header","schema":1,"space":"x","made_by":""}\n{"kind":"row"}\n'),
    ],
    ids=["empty", "foreign", "no header", "newer", "truncated row"],
)
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(StateError, match=r"a\.gz"):
        read_archive(tmp_path / "a.gz")


def test_a_truncated_archive_is_refused(tiny_archive_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(tiny_archive_file.read_bytes()[:-40])
    with pytest.raises(StateError, match=r"a\.gz"):
        read_archive(tmp_path / "a.gz")


def test_scores_are_relative_to_their_own_task() -> None:
    rows = [Row("t", {}, float(score)) for score in range(10, 30)] + [Row("t", {}, None)]
    scale = scale_of(rows)
    assert scale.relative(20.0) == pytest.approx(0)
    assert scale.relative(12.0) == pytest.approx(-1)
    assert scale.relative(None) == WORST and scale.relative(1e9) == WORST


def test_rows_of_another_space_are_left_out(tiny_archive: Archive) -> None:
    vocabulary = build_vocabulary()
    strange = Row("t0", {**tiny_archive.rows[0].values, "model.wings": 2}, 0.1)
    with pytest.raises(ConfigError, match="wings"):
        config_of(strange.values, tiny_archive.tasks["t0"].task)
    with_it = Archive(tiny_archive.tasks, (*tiny_archive.rows, strange))
    assert len(examples_of(with_it, vocabulary).task) == len(examples_of(tiny_archive, vocabulary).task)


def test_the_shipped_archive_is_small_real_and_free_of_test_metrics() -> None:
    path = SHIPPED / "archive.jsonl.gz"
    assert path.stat().st_size < 2_000_000
    archive = read_archive(path)
    assert len(archive.of(TRAIN).tasks) >= 20 and len(archive.of(HELD_OUT).tasks) >= 10
    assert len(archive.rows) >= 1_000
    assert {len(task.features) for task in archive.tasks.values()} == {30}
    for row in archive.rows[::17]:
        config = config_of(row.values, archive.tasks[row.task].task)
        recorded = {path: value for path, value in row.values.items() if value is not None}
        found = active_values(config)
        younger = {path: value for path, value in ADDED.items() if path in found}
        assert found == recorded | younger
    text = gzip.decompress(path.read_bytes()).decode()
    assert "test_mse" not in text
    assert {record["status"] for record in map(json.loads, text.splitlines()) if record["kind"] == "row"} > {
        "OK"
    }
