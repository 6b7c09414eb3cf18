"""The text next to an exported graph: how to call it with numpy and onnxruntime alone."""

from __future__ import annotations

from nas_system.data import time_features
from nas_system.data.time_features import CONTINUOUS, SUB_HOURLY, Feature, unit_of
from nas_system.export.signature import FUTURE_MARKS, PAST_MARKS, Signature
from nas_system.space.families import TimeMarks
from nas_system.space.time_steps import SECONDS

NUMPY = {
    "second": 't.astype("M8[s]").astype(int) % 60',
    "minute": 't.astype("M8[m]").astype(int) % 60',
    "hour": 't.astype("M8[h]").astype(int) % 24',
    "weekday": '(t.astype("M8[D]").astype(int) + 3) % 7',
    "day": '(t.astype("M8[D]") - t.astype("M8[M]")).astype(int) + 1',
    "yearday": '(t.astype("M8[D]") - t.astype("M8[Y]")).astype(int) + 1',
    "month": 't.astype("M8[M]").astype(int) % 12 + 1',
}
"""Each calendar function of `time_features`, of time stamps `t`."""

THURSDAY = 'th = t.astype("M8[D]") + 3 - (t.astype("M8[D]").astype(int) + 3) % 7'
WEEK = '((th - th.astype("M8[Y]")).astype(int)) // 7 + 1'
"""The week of ISO 8601, by its Thursday."""


def instructions(
    file: str, signature: Signature, inputs: tuple[str, ...], families: str, windows: int, difference: float
) -> str:
    """Return the Markdown with a script that runs as it stands, from a CSV file `rows.csv`."""
    rows, steps, targets = signature.rows, signature.pred_len, len(signature.targets)
    reads = [
        f"- `rows` (windows, {rows}, {len(signature.columns)}), float64: the last {rows} rows, oldest first, "
        f"{_step(signature.freq)} apart,\n  none missing, in the units of the data; columns as in `COLUMNS`."
    ]
    if PAST_MARKS in inputs:
        reads.append(
            f"- `past_marks` (windows, {rows}, marks), float32: time features of these rows, as in `marks`."
        )
    if FUTURE_MARKS in inputs:
        reads.append(f"- `future_marks` (windows, {steps}, marks), float32: those of the steps to forecast.")
    text = [
        f"# How to call {file!r}",
        "",
        f"Family: {families}. Needs `pip install numpy onnxruntime` and nothing else. Scaling is inside.",
        "",
        *reads,
        f"- gives `forecast` (windows, {steps}, {targets}), float64: the {steps} steps after the last row,",
        "  in the units of the data; columns as in `TARGETS`.",
        "",
        f"On {windows} windows it differed from torch by at most {difference:.1e} standard deviations.",
        "",
        "```python",
        *_script(file, signature, inputs),
        "```",
        "",
    ]
    return "\n".join(text)


def _script(file: str, signature: Signature, inputs: tuple[str, ...]) -> list[str]:
    with_marks = [name for name in (PAST_MARKS, FUTURE_MARKS) if name in inputs]
    lines = [
        "import csv",
        "import numpy as np",
        "import onnxruntime",
        "",
        f"COLUMNS = {list(signature.columns)!r}",
        f"TARGETS = {list(signature.targets)!r}",
        "",
    ]
    if with_marks:
        lines += [*_marks_function(signature), ""]
    lines += [
        'with open("rows.csv", newline="") as file:  # a time stamp, then the columns in any order',
        f"    table = list(csv.DictReader(file))[-{signature.rows}:]",
        "rows = np.array([[float(row[name]) for name in COLUMNS] for row in table])",
        'given = {"rows": rows[None]}  # several windows: one below the other, np.stack([...])',
    ]
    if with_marks:
        lines += [
            'past = np.array([next(iter(row.values())) for row in table], dtype="M8[s]")',
            f"future = {_future(signature)}",
        ]
        lines += [f'given["{name}"] = marks({name.removesuffix("_marks")})[None]' for name in with_marks]
    return [
        *lines,
        f"session = onnxruntime.InferenceSession({file!r})",
        'forecast = session.run(["forecast"], given)[0][0]',
        "print(TARGETS, forecast.tolist())",
    ]


def _marks_function(signature: Signature) -> list[str]:
    """Return the lines that compute the time features of time stamps `t`."""
    parts = [part for kind in signature.kinds for part in _expressions(kind, signature.freq)]
    week = [f"    {THURSDAY}"] if any("th" in part for part in parts) else []
    return [
        "def marks(t):",
        *week,
        "    return np.stack([",
        *(f"        {part}," for part in parts),
        '    ], axis=1).astype("float32")',
    ]


def _expressions(kind: TimeMarks, freq: str) -> list[str]:
    if kind == "continuous":
        return [_scaled(feature) for feature in CONTINUOUS[unit_of(freq)]]
    numbers = [NUMPY[name] for name in ("month", "day", "weekday", "hour")]
    quarter = f"({NUMPY['minute']}) // {time_features.QUARTER_HOUR}"
    return [*numbers, quarter] if unit_of(freq) in SUB_HOURLY else numbers


def _scaled(feature: Feature) -> str:
    function, low, span = feature
    number = WEEK if function is time_features.week else NUMPY[function.__name__]
    return f"({number} - {low}) / {span} - 0.5"


def _count_and_unit(freq: str) -> tuple[int, str]:
    unit = unit_of(freq)
    return int(freq.removesuffix(unit) or 1), unit


def _future(signature: Signature) -> str:
    """Return the expression for the time stamps to forecast, from those of the rows, `past`."""
    count, unit = _count_and_unit(signature.freq)
    ahead = f"np.arange(1, {signature.pred_len + 1})"
    if unit != "MS":
        return f"past[-1] + {ahead} * np.timedelta64({count * SECONDS[unit]}, 's')"
    month = 'past[-1].astype("M8[M]")'
    into = f'({month} + {count} * {ahead}).astype("M8[s]") + (past[-1] - {month})'
    last = f'({month} + {count} * {ahead} + 1).astype("M8[s]") - np.timedelta64(1, "D")'
    return f"np.minimum({into}, {last})"


def _step(freq: str) -> str:
    count, unit = _count_and_unit(freq)
    name = {"s": "second", "min": "minute", "h": "hour", "D": "day", "W": "week", "MS": "month"}[unit]
    return f"one {name}" if count == 1 else f"{count} {name}s"
