"""The table of a Parquet file as CSV text. Needs the extra `files`."""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

from nas_system.errors import ConfigError


def csv_in(content: bytes, name: str, parquet: ModuleType) -> bytes:
    """Return the rows as CSV, the index of pandas (or else the only time stamp) as the first column.

    Raises ConfigError for a damaged file and for columns that are no plain values.
    """
    try:
        table = parquet.read_table(io.BytesIO(content))
        frame = table.to_pandas()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"{name}: this is a Parquet file that cannot be read ({type(error).__name__}); write it again, "
            "or as CSV"
        ) from None
    if frame.index.name is None and not _is_time(frame.index):
        stamped = [column for column in frame.columns if _is_time(frame[column])]
        if len(stamped) == 1:
            frame = frame.set_index(stamped[0])
        else:
            frame = frame.set_index(frame.columns[0]) if len(frame.columns) else frame
    buffer = io.StringIO(newline="")
    frame.index = frame.index.map(_stamp) if _is_time(frame.index) else frame.index
    frame.to_csv(buffer, lineterminator="\n", index_label=str(frame.index.name or "date"))
    return buffer.getvalue().encode()


def _is_time(values: Any) -> bool:
    return str(values.dtype).startswith("datetime64")


def _stamp(value: Any) -> str:
    return value.isoformat(sep=" ")
