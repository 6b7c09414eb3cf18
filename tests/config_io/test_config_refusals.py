"""What a configuration file may not hold: code, tricks, misspellings. Refused with a hint, never run."""

from __future__ import annotations

import subprocess
import sys
import warnings
from contextlib import chdir, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_system.config_io.config_file import LARGEST_FILE, parse_config, read_config, render_config
from nas_system.errors import ConfigError
from nas_system.space import RunConfig, TrainingConfig, family_default

HEAD = "import torch.optim as optim\nimport torch.nn as nn\n"
REST = "\nmodel = {}\ntraining = {}\n"
SING = "open('canary', 'w')"
"""Leaves a file behind if it is ever executed."""

NOT_ACCEPTED = {
    "call in a value": ('model = {"d_model": SING}', 1, "open"),
    "import by name": ('model = {"d_model": __import__("os").system("touch canary")}', 1, "__import__"),
    "statement": (f"{SING}\nmodel = {{}}", 1, "open"),
    "f-string": ('model = {"family": f"{SING}"}', 1, "f"),
    "list comprehension": ("model = [SING for i in (1,)]", 1, r"\[open.* for i in"),
    "dict comprehension": ("model = {i: SING for i in (1,)}", 1, r"\{i: open.* for i in"),
    "set comprehension": ("model = {SING for i in (1,)}", 1, r"\{open.* for i in"),
    "generator": ('model = {"a": (SING for i in (1,))}', 1, r"\(open.* for i in"),
    "lambda": ('model = {"a": lambda: SING}', 1, "lambda: open"),
    "walrus": ('model = {"a": (b := SING)}', 1, "b := open"),
    "conditional": ('model = {"a": 1 if SING else 2}', 1, "1 if open"),
    "boolean operator": ('model = {"a": SING or 2}', 1, "open.* or 2"),
    "comparison": ('model = {"a": SING == 2}', 1, "open.* == 2"),
    "subscript": ('model = {"a": [SING][0]}', 1, r"\[open.*\]\[0\]"),
    "attribute of a call": ('model = {"a": SING.name}', 1, r"open.*\.name"),
    "call as a key": ("model = {SING: 1}", 1, "open"),
    "set": ('model = {"a": {SING}}', 1, r"\{open.*\}"),
    "unpacked dictionary": ("model = {**SING}", 1, "open"),
    "unpacked list": ('model = {"a": [*SING]}', 1, r"\*open"),
    "annotation": ("model: SING = {}", 1, "model: open"),
    "augmented": ("model = {}\nmodel |= SING", 2, "model .= open"),
    "deletion": ("model = {}\ndel model", 2, "del model"),
    "key assignment": ('model = {}\nmodel["a"] = SING', 2, r"model\[.a.\] = open"),
    "attribute assignment": ("import torch.nn as nn\nnn.x = SING", 2, r"nn\.x = open"),
    "two targets": ("model = data = {}", 1, "model = data = {}"),
    "tuple target": ("model, data = SING", 1, "model, data = open"),
    "if": (f"if {SING}:\n    pass", 1, "if open"),
    "for": (f"for i in {SING}:\n    pass", 1, "for i in open"),
    "while": (f"while {SING}:\n    pass", 1, "while open"),
    "with": (f"with {SING} as model:\n    pass", 1, "with open"),
    "try": (f"try:\n    {SING}\nfinally:\n    pass", 1, "try:"),
    "assert": (f"assert {SING}", 1, "assert open"),
    "raise": (f"raise {SING}", 1, "raise open"),
    "function": (f"def model(a={SING}):\n    pass", 1, "def model"),
    "class": (f"class model({SING}):\n    pass", 1, "class model"),
    "match": (f"match {SING}:\n    case _: pass", 1, "match open"),
    "global": ("global model", 1, "global model"),
    "await": ('model = {"a": await SING}', 1, "await open"),
    "second docstring": ("model = {}\n'words'", 2, "words"),
    "foreign import": ("import os", 1, "import os"),
    "import of a relative": ("from . import canary", 1, r"from \. import canary"),
    "import of everything": ("from torch import *", 1, r"from torch import \*"),
    "import deep in torch": ("from torch.utils import data", 1, r"from torch\.utils import data"),
    "arithmetic": ('data = {"seq_len": 24*14}', 1, r"24\*14"),
    "power": ('training = {"optimizer_params": {"lr": 10**-3}}', 1, r"10\*\*-3"),
    "endless power": ('data = {"seq_len": 9**9**9**9}', 1, r"9\*\*9\*\*9\*\*9"),
    "division by zero": ('data = {"seq_len": 1/0}', 1, "1/0"),
    "text times": ('data = {"seq_len": "a" * 10**9}', 1, r"a.* \* 10"),
    "call of dict": ("model = dict(d_model=8)", 1, r"dict\(d_model=8\)"),
    "called class": (HEAD + 'training = {"criterion_class": nn.MSELoss()}', 3, r"nn\.MSELoss\(\)"),
    "other name": ('model = {"d_model": width}', 1, "width"),
    "javascript": ('model = {"distil": true}', 1, "true"),
    "null": ('model = {"distil": null}', 1, "null"),
    "nan": ('training = {"grad_clip": nan}', 1, "nan"),
    "class not imported": ('training = {"optimizer_class": optim.Adam}', 1, r"optim\.Adam"),
    "key not text": ("data = {1: 2}", 1, "1"),
    "bytes": ('task = {"dataset": b"etth1"}', 1, "b.etth1"),
    "complex": ('training = {"grad_clip": 1j}', 1, "1j"),
    "ellipsis": ('training = {"grad_clip": ...}', 1, r"\.\.\."),
    "folded letters": ("\uff4dodel = {}", 1, ".uff4dodel = {}"),
    "mathematical letters": ("𝐦odel = {}", 1, ".U0001d426odel = {}"),
    "class with folded letters": (HEAD + 'training = {"optimizer_class": optim.\uff21dam}', 3, "uff21dam"),
}
"""Text, the line of its fault, and what the message quotes of it."""

VALUES = {
    "import over a section": ("import torch.nn as model", "means two things"),
    "section over an import": ("import torch.nn as seed\nseed = 3", "line 2: .*means two things"),
    "one alias for two": ("import torch.nn as x\nimport torch.optim as x", "means two things"),
    "name as a value": ("width = 3", "no key 'width'; there are: model"),
    "misspelt section": ("modle = {}", "did you mean model"),
    "class off the list": (
        HEAD + 'training = {"optimizer_class": optim.RMSprop}',
        r"line 3: .*is one of: optim\.Adam",
    ),
    "attribute chain": (HEAD + 'training = {"optimizer_class": optim.Adam.__init__}', "is one of"),
    "class where a number goes": (
        HEAD + 'model = {"d_model": optim.Adam}',
        r"line 3: model\.d_model=optim\.Adam: .*valid integer",
    ),
    "class of the wrong kind": (
        HEAD + 'training = {"optimizer_class": nn.MSELoss}',
        r"is one of: optim\.Adam",
    ),
    "class in quotes": ('training = {"optimizer_class": "Adam"}', "without quotes"),
    "no optimizer": ('training = {"optimizer_class": None}', "is one of"),
    "second assignment": ("seed = 1\nseed = 2", "line 2: .*twice .first in line 1"),
    "key twice": ('data = {"seq_len": 96,\n"seq_len": 96}', "stands twice .first in line 1"),
    "infinite": ('training = {"grad_clip": 1e400}', "finite"),
    "minus infinite": ('training = {"grad_clip": -1e400}', "finite"),
    "long integer": (f"seed = {'9' * 30}", "this large"),
    "very long integer": (f"seed = {'9' * 5000}", "not valid syntax"),
    "very long hexadecimal": (f"seed = 0x{'f' * 9000}", "this large"),
    "lone surrogate": (r'task = {"dataset": "\ud800"}', "lone surrogate"),
    "deep": (f"model = {'[' * 150}{']' * 150}", "model is a mapping"),
    "deeper": (f"model = {'[' * 3000}{']' * 3000}", "nested|not valid syntax"),
    "many minus": (f"seed = {'-' * 20000}1", "nested|not valid syntax"),
    "long chain": (f"seed = a{'.a' * 20000}", "nested|not accepted"),
    "long sum": (f"seed = 1{'+1' * 20000}", "nested|not accepted"),
    "unfinished": ('model = {"d_model": 8,', "not valid syntax"),
    "tabs and spaces": ("if 1:\n\t1\n        1", "not valid syntax"),
    "unclosed string": ('model = {"д: 1}', "not valid syntax"),
    "list for a section": ("model = []", "model is a mapping"),
    "out of range": ('data = {"seq_len": 3}', r"data\.seq_len=3: .*allowed: 4 \.\. 2048"),
    "bool for a number": ('data = {"seq_len": True}', r"data\.seq_len=True: .*valid integer"),
    "text for a number": ('data = {"seq_len": "96"}', r"data\.seq_len='96': .*valid integer"),
    "fraction for a count": ('data = {"seq_len": 96.5}', r"data\.seq_len=96\.5"),
    "None for a number": ('data = {"seq_len": None}', r"data\.seq_len=None"),
    "indivisible": ('model = {"d_model": 34, "n_heads": 4}', "not divisible"),
    "too long label": ('data = {"seq_len": 8}', r"model\.label_len=48 is longer"),
    "no such family": ('model = {"family": "resnet"}', "none of: informer, ridge"),
    "family of a strange type": ('model = {"family": []}', "none of: informer"),
    "unknown key": ('model = {"d_modle": 8}', r"model has no key 'd_modle'; did you mean d_model"),
    "other family's key": ('model = {"family": "linear", "d_model": 8}', "has no key 'd_model'; there are"),
    "key of another section": ('training = {"batch_size": 8}', "it belongs to data"),
    "horizon in data": ('data = {"pred_len": 8}', "it belongs to task"),
    "rate outside its params": ('training = {"lr": 0.1}', r"it belongs to training\.optimizer_params"),
    "seed in training": ('training = {"seed": 1}', "the top of the file"),
    "momentum for Adam": ('training = {"optimizer_params": {"momentum": 0.9}}', r"belongs to optim\.SGD"),
    "T_max for StepLR": (
        HEAD + 'training = {"scheduler_class": optim.lr_scheduler.StepLR, "scheduler_params": {"T_max": 3}}',
        "T_max belongs to optim.lr_scheduler.CosineAnnealingLR",
    ),
    "StepLR without a step": (
        HEAD + 'training = {"scheduler_class": optim.lr_scheduler.StepLR}',
        "lacks step_size",
    ),
    "parameters without a scheduler": (
        'training = {"scheduler_params": {"T_max": 3}}',
        "without a scheduler",
    ),
    "parameters as a list": ('training = {"optimizer_params": [1]}', r"optimizer_params is a mapping"),
    "label twice": (
        'model = {"label_len": 8}\ndata = {"label_len": 8}',
        r"line 2: model\.label_len is given twice",
    ),
    "misspelt task": ('task = {"horizon": 8}', "task has no key 'horizon'"),
    "target as text": ('task = {"targets": "OT"}', r"task\.targets='OT'"),
}


def _complete(text: str) -> str:
    """`text` as a file that lacks nothing, so that nothing but `text` can be the reason."""
    missing = [
        name for name in ("model", "training") if not text.startswith(name) and f"\n{name} =" not in text
    ]
    return text.replace("SING", SING) + "".join(f"\n{name} = {{}}" for name in missing) + "\n"


REFUSED = {
    **{
        name: (text, rf"line {line}: .*{found}.* is not accepted; this file is data and never executed")
        for name, (text, line, found) in NOT_ACCEPTED.items()
    },
    **VALUES,
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.fault(33)
def test_it_is_refused_with_its_reason_and_never_run(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text(_complete(text), encoding="utf-8")
    with chdir(tmp_path), pytest.raises(ConfigError, match=reason) as caught:
        read_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < 700
    assert not (tmp_path / "canary").exists()


@pytest.mark.fault(33)
def test_the_canary_sings_when_such_a_file_is_run_by_python(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(_complete(NOT_ACCEPTED["call in a value"][0]))
    subprocess.run([sys.executable, "config.py"], cwd=tmp_path, check=True)
    assert (tmp_path / "canary").exists()


def test_a_doubtful_escape_is_not_worth_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text('model = {}\ntraining = {}\ntask = {"dataset": "C:\\data"}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_config(path).task.dataset == "C:\\data"


def test_a_message_names_the_line_of_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    text = render_config(RunConfig(training=TrainingConfig(lr=0.001)))
    line = next(n for n, row in enumerate(text.splitlines(), 1) if '"lr"' in row)
    path.write_text(text.replace('"lr": 0.001', '"lr": 7.0'))
    with pytest.raises(
        ConfigError, match=rf"config\.py: line {line}: training\.lr=7\.0: .*allowed: 1e-05 \.\. 0\.1"
    ):
        read_config(path)
    path.write_text(text.replace('"lr": 0.001', '"lr": 1e-3 * 2'))
    with pytest.raises(ConfigError, match=rf"config\.py: line {line}: '1e-3 \* 2' is not accepted"):
        read_config(path)


def test_every_problem_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text('model = {"d_model": 3}\ntraining = {"max_epochs": 0}\nseed = -1')
    with pytest.raises(
        ConfigError, match=r"line 1: model\.d_model.*line 2: training\.max_epochs.*line 3: seed"
    ):
        read_config(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "model = {...} is missing"),
        (b"model = {}", "training = {...} is missing"),
        (b"model = {}\ntraining = {}\0", "line 2: a NUL byte"),
        (b"model = {}\n# \xff\xfe", "line 2: not UTF-8"),
        (b"# coding: latin-1\n# \xe9", "line 2: not UTF-8"),
        (b"#" * (LARGEST_FILE + 1), "has 65,537 bytes"),
        (bytes(range(256)), "line 2: not UTF-8"),
    ],
)
def test_bytes_that_are_no_configuration_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_config(path)


PLAIN = {
    "yaml: no such task": (
        "a.yaml",
        "seed: 1\ntask: {name: chess}",
        "line 2: task: there is no such task; choose from: forecasting, zinc, zinc_synth",
    ),
    "json: a task that is nothing": ("a.json", '{"task": null}', "task=None: there is no such task"),
    "yaml: a key of another task": (
        "a.yaml",
        "task: {name: zinc, targets: [OT]}",
        "task has no key 'targets'; there are: name, train_graphs, val_graphs, test_graphs",
    ),
    "yaml: a family of another task": (
        "a.yaml",
        "task: {name: zinc_synth}\nmodel: {family: gru}",
        "family 'gru' does not serve the task 'zinc_synth'; choose from: graph_transformer",
    ),
    "yaml: key twice": ("a.yaml", "seed: 1\nseed: 2", "line 2: the key 'seed' stands twice"),
    "yaml: python object": (
        "a.yaml",
        "seed: !!python/object/apply:os.system ['touch canary']",
        "refused|tag|no plain",
    ),
    "yaml: tag": ("a.yaml", "seed: !!int abc", "the tag"),
    "yaml: aliases": ("a.yaml", "model: &m {family: linear}\ntask: *m", "line 1: anchors"),
    "yaml: date": ("a.yaml", "seed: 2020-99-99", "put text in quotes"),
    "yaml: two documents": ("a.yaml", "seed: 1\n---\nseed: 2", "not valid YAML"),
    "yaml: escape beyond Unicode": ("a.yaml", 'seed: "\\Uffffffff"', "not valid YAML"),
    "yaml: deep": ("a.yaml", "[" * 5000, "nested|not valid YAML"),
    "yaml: long hexadecimal": ("a.yaml", f"seed: 0x{'f' * 9000}", "this large"),
    "yaml: long integer": ("a.yaml", f"seed: {'9' * 5000}", "no plain value"),
    "yaml: list": ("a.yaml", "- 1", "a configuration is a mapping"),
    "yaml: key that is a list": ("a.yaml", "? [1]\n: 2", "a key is a single word"),
    "yaml: unknown": (
        "a.yaml",
        "training:\n  learning_rate: 1",
        "line 2: training has no key 'learning_rate'",
    ),
    "yaml: wrong place": ("a.yaml", "training: {batch_size: 1}", "it belongs to data"),
    "yaml: unknown top": ("a.yaml", "modle: {}", "did you mean model"),
    "yaml: out of range": ("a.yaml", "data:\n  seq_len: 1", r"line 2: data\.seq_len=1"),
    "yaml: no family": ("a.yaml", "model: {d_model: 8}", "family"),
    "yaml: other family": ("a.yaml", "model: {family: resnet}", "resnet"),
    "yaml: infinite": ("a.yaml", "training: {grad_clip: .inf}", r"training\.grad_clip=inf"),
    "yaml: null model": ("a.yaml", "model:", "line 1: model"),
    "yaml: number for a model": ("a.yaml", "model: 3", "line 1: model"),
    "yaml: family of a strange type": ("a.yaml", "model: {family: [1]}", "line 1: model"),
    "yaml: null section": ("a.yaml", "training:", "training"),
    "json: key twice": ("a.json", '{"seed": 1, "seed": 2}', "the key 'seed' stands twice"),
    "json: torn": ("a.json", '{"seed": 1', "not valid JSON"),
    "json: nan": ("a.json", '{"training": {"lr": NaN}}', r"training\.lr=nan"),
    "json: deep": ("a.json", "[" * 60000, "nested"),
    "json: long integer": ("a.json", f'{{"seed": {"9" * 5000}}}', "not valid JSON"),
    "json: list": ("a.json", "[]", "a configuration is a mapping"),
    "json: lone surrogate": ("a.json", '{"task": {"dataset": "\\ud800"}}', "half a character"),
    "other suffix": ("a.toml", "", "unknown kind of file"),
    "no suffix": ("config", "", "unknown kind of file"),
}


@pytest.mark.parametrize(("name", "text", "reason"), PLAIN.values(), ids=PLAIN)
def test_plain_files_are_refused_as_strictly(name: str, text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with chdir(tmp_path), pytest.raises(ConfigError, match=reason):
        read_config(path)
    assert not (tmp_path / "canary").exists()


def test_half_a_character_cannot_be_rendered_either() -> None:
    config = family_default("informer")
    task = config.task.model_copy(update={"dataset": "\ud800"})
    with pytest.raises(ConfigError, match="surrogate"):
        render_config(config.model_copy(update={"task": task}))


@pytest.mark.timeout(60)
def test_no_text_of_this_size_hangs_the_reader(tmp_path: Path) -> None:
    for name, text in (
        *(("a.yaml", unit * 60_000) for unit in ("[", "9", "1:", "- ", "? ", "a: &a\n", "!")),
        *(("a.py", unit * 60_000) for unit in ("(", "9", "-", "a.", "1+", "f'{", "not ", "lambda:", "[[],")),
    ):
        (tmp_path / name).write_text(text[: LARGEST_FILE - 1])
        with pytest.raises(ConfigError):
            read_config(tmp_path / name)


def test_a_name_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.py", "\0.py", tmp_path / ("a" * 300 + ".py")):
        with pytest.raises(ConfigError):
            read_config(path)


# ------------------------------------------------------------------------------------------- fuzzing

WORDS = [
    *(
        "model",
        "training",
        "data",
        "task",
        "seed",
        "=",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ":",
        ",",
        "\n",
        " ",
        "\t",
    ),
    *(
        '"d_model"',
        '"optimizer_class"',
        '"optimizer_params"',
        '"lr"',
        "optim.Adam",
        "nn",
        ".",
        "import torch",
        "as",
    ),
    *(
        "1",
        "-",
        "1e-3",
        "1e999",
        "0x",
        "True",
        "None",
        "'",
        '"',
        "\\",
        "#",
        "lambda",
        "await",
        "*",
        "**",
        ":=",
        "if",
    ),
    *(
        "\0",
        "\ufeff",
        "ｍ",
        "\x0c",
        "\r",
        "\u2028",
        "🙂",
        "j",
        "b''",
        "f'{",
        "...",
        "for",
        "in",
        "yield",
        "@",
        "->",
    ),
]


def _read_or_refuse(text: str, suffix: str) -> None:
    """Anything but a RunConfig or a ConfigError makes the test fail."""
    with suppress(ConfigError):
        config = parse_config(text.encode("utf-8", "surrogatepass"), Path(f"config{suffix}"))
        assert isinstance(config, RunConfig)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join), st.sampled_from([".py", ".yaml", ".json"]))
@pytest.mark.fault(33)
def test_any_text_is_read_or_refused(text: str, suffix: str) -> None:
    _read_or_refuse(text, suffix)


GOOD = render_config(family_default("informer"), comments=False)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(
    st.integers(0, len(GOOD)), st.integers(0, 12), st.lists(st.sampled_from(WORDS), max_size=3).map("".join)
)
@pytest.mark.fault(33)
def test_a_damaged_configuration_is_read_or_refused(start: int, length: int, inserted: str) -> None:
    _read_or_refuse(GOOD[:start] + inserted + GOOD[start + length :], ".py")
