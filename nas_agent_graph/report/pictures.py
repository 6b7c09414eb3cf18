"""The pictures that trainings drew, put into a report: the best run's first, as many as its size allows."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from nas_system.files import open_regular_file
from nas_system.processes.run_files import RunPaths
from nas_system.space.score import Direction, loss_of

TOTAL_BYTES = 3_000_000
"""Of all pictures in a page; base64 makes a third more of it."""
LARGEST_BYTES = 1_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 24
"""Up to and with width and height, which always come first."""


class Picture(TypedDict):
    """A picture in the page, or why it is left out."""

    name: str
    data: NotRequired[str]
    """The PNG in base64."""
    bytes: NotRequired[int]
    width: NotRequired[int]
    height: NotRequired[int]
    left_out: NotRequired[str]


def embed_pictures(
    runs: Sequence[dict[str, Any]], runs_dir: Path, direction: Direction, total_bytes: int = TOTAL_BYTES
) -> dict[str, int]:
    """Add `pictures` to every run, each with `data`, or with `left_out` that says why not.

    Learning curves are drawn by the page itself. Returns how many pictures, of how many bytes, were
    left out.
    """
    left, missed = total_bytes, {"pictures": 0, "picture_bytes": 0}
    for run in runs:
        run["pictures"] = []
    for run in sorted(runs, key=lambda run: _rank(run, direction)):
        paths = RunPaths(runs_dir / run["run_id"])
        for path in (paths.predictions, paths.attention):
            picture = Picture(name=path.name)
            try:
                content, size = _read(path, min(left, LARGEST_BYTES))
            except OSError:
                continue
            except ValueError as error:
                picture["left_out"] = str(error)
                run["pictures"].append(picture)
                continue
            picture["bytes"] = size
            if content is None:
                picture["left_out"] = "the page holds as many pictures as its size allows"
                missed["pictures"] += 1
                missed["picture_bytes"] += size
            else:
                picture["data"] = base64.b64encode(content).decode("ascii")
                # Known to the page before it is decoded, so that what stands below does not move.
                picture["width"], picture["height"] = struct.unpack(">II", content[16:24])
                left -= size
            run["pictures"].append(picture)
    return missed


def _rank(run: Mapping[str, Any], direction: Direction) -> tuple[bool, bool, float]:
    score = run["val_score"]
    return not run["is_best_run"], not run["accepted"], inf if score is None else loss_of(score, direction)


def _read(path: Path, limit: int) -> tuple[bytes | None, int]:
    """Return content and size; no content if it is larger than `limit`. Raises ValueError if it is no PNG."""
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            return None, size
        content = file.read(limit + 1)
    if not content.startswith(_PNG) or len(content) < _HEADER_BYTES:
        raise ValueError("is not a PNG")
    return (content, len(content)) if len(content) <= limit else (None, len(content))
