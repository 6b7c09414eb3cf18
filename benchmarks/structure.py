"""Figures of the code's structure: sizes, names, imports, docstrings, and untyped records.

    python benchmarks/structure.py [ROOT]

Counts the `.py` files of the two packages under ROOT, a checkout of this project (default: this
one). Imports inside functions count; those under `TYPE_CHECKING` do not, except where a module-level
`__getattr__` makes them when first used. A package stands in the graph only where its `__init__`
itself is imported, and a circle counts as one module of a chain.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = ("nas_agent_graph", "nas_system")
TASK_FOLDERS = ("nas_system.tasks", "nas_system.space.tasks")
NESTING = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
VERB_ENDINGS = ("ate", "ify", "ize", "ise")
VERBS = """
accept add adjust allow answer append apply ask assign await bind block bring build call cast catch change
check choose clean clear clip close collect combine compare compile compose compute confirm connect
construct convert copy count cover create cut decide declare decode define delete deny derive describe
detach detect determine do download drain draw drop embed encode end enforce ensure enter exchange execute
exit expand export extend extract fail feed fetch fill filter find finish fit fix flatten fold follow forget
fork format forward freeze gather get give group guess hand handle hash hide hold ignore import include
index infer initialise inject insert install interrupt invert join keep kill launch leave let lift limit
link list listen load lock log look lower make map mark mask match measure merge mix move multiply name
normalise note offer open order pack pad parse pass paste pause perform pick place plan plot predict prepare
print proceed produce project propose prune pull push put quote raise rank read rebuild receive record
reduce refuse register reject release remember remove rename render repeat replace replay report request
require rescale reserve reset resolve restore resume retry return reverse rewrite round run sample save say
scale scan score search seed select send serve set shift show shrink shuffle shut sign skip sleep solve sort
split stack standardise start stay step stop store strip sum swap switch take tell test tie tokenise trace
track train transform translate transpose trim try turn undo unpack update use validate verify visit wait
walk warn weigh widen wrap write yield
"""


def paths_of(root: Path) -> list[Path]:
    """Return the `.py` files of the two packages under `root`."""
    return [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]


def modules(root: Path) -> dict[str, ast.Module]:
    """Return every module of the two packages under `root`, parsed, by its dotted name."""
    found = {}
    for path in paths_of(root):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def import_graph(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return what every module imports of the others, wherever in the file the import stands."""
    graph = {}
    for name, tree in trees.items():
        imported = set()
        for node in _runtime_nodes(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= parts & trees.keys() if parts <= trees.keys() else {*parts, node.module}
        graph[name] = (imported & trees.keys()) - {name}
    return graph


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    is_lazy = isinstance(node, ast.Module) and any(getattr(f, "name", "") == "__getattr__" for f in node.body)
    for child in ast.iter_child_nodes(node):
        if is_lazy or not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from _runtime_nodes(child)


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of two and more modules that import each other, directly or through others."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        reach[start], waiting = set(), list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in reach[start]:
                reach[start].add(module)
                waiting += graph[module]
    found = {frozenset(m for m in reach[name] if name in reach[m]) for name in graph}
    return [set(circle) for circle in found if len(circle) > 1]


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """Return the longest chain of imports, from the program down; a circle is passed as one module."""
    head = {module: min(circle) for circle in circles(graph) for module in circle}
    merged: dict[str, set[str]] = {}
    for name, imported in graph.items():
        ours = head.get(name, name)
        merged.setdefault(ours, set()).update({head.get(m, m) for m in imported} - {ours})

    @cache
    def below(name: str) -> tuple[str, ...]:
        return (name, *max((below(m) for m in sorted(merged[name])), key=len, default=()))

    return list(max((below(name) for name in sorted(merged)), key=len))


def fullest_folder(root: Path) -> tuple[str, int]:
    """Return the folder with the most `.py` files, and their number."""
    folders = Counter(path.parent for path in paths_of(root))
    folder, count = folders.most_common(1)[0]
    return str(folder.relative_to(root)), count


def task_checks(trees: dict[str, ast.Module]) -> list[str]:
    """Return every `isinstance` of a task class outside the task folders, as module:line."""
    found = []
    for name, tree in trees.items():
        if name.startswith(TASK_FOLDERS):
            continue
        for node in ast.walk(tree):
            is_check = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
            if is_check and re.search(r"\w+Task\b", ast.unparse(node.args[1])):
                found.append(f"{name}:{node.lineno}")
    return found


def _depth(node: ast.AST, level: int = 0) -> int:
    """Return how many blocks stand in each other below `node`; `elif` is no level of its own."""
    deepest = level
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, (*FUNCTIONS, ast.ClassDef)):
                is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and field == "orelse"
                deepest = max(deepest, _depth(child, level + (isinstance(child, NESTING) and not is_elif)))
    return deepest


def _public_names(tree: ast.Module) -> int:
    defined = [node for node in tree.body if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
    return sum(not node.name.startswith("_") for node in defined)


def figures(root: Path) -> dict[str, object]:
    """Measure the checkout in `root`."""
    trees = modules(root)
    texts = [
        p.read_text(encoding="utf-8") for package in PACKAGES for p in sorted((root / package).rglob("*.py"))
    ]
    tests = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in (root / "tests").rglob("*.py"))
    sizes = sorted(len(text.splitlines()) for text in texts)
    lines = sum(sizes)
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for node in functions)
    called_once = 0
    for tree, text in zip(trees.values(), texts, strict=True):
        uses = Counter(re.findall(r"\b_[a-z]\w*", text))
        called_once += sum(uses[f.name] == 2 for f in ast.walk(tree) if isinstance(f, FUNCTIONS))
    docs = [doc for node in functions if (doc := ast.get_docstring(node))]
    known = frozenset(VERBS.split())
    first = [re.split(r"\W+", doc.lower().lstrip("`\"'*( "), maxsplit=1)[0] for doc in docs]
    verbs = sum(word in known or word.endswith(VERB_ENDINGS) for word in first)
    graph = import_graph(trees)
    stems = Counter(path.stem for path in paths_of(root))
    names_twice = sum(count > 1 for stem, count in stems.items() if not stem.startswith("__"))
    chain, (folder, files) = longest_chain(graph), fullest_folder(root)
    return {
        "files": len(texts),
        "lines": lines,
        "test_lines_per_line": round(tests / lines, 2),
        "file_median_p90_max": [round(statistics.median(sizes)), sizes[int(0.9 * len(sizes))], sizes[-1]],
        "function_median_p90": [round(statistics.median(lengths)), lengths[int(0.9 * len(lengths))]],
        "functions_up_to_40_lines_percent": round(100 * sum(n <= 40 for n in lengths) / len(lengths), 1),
        "longest_function": lengths[-1],
        "functions": len(lengths),
        "nested_4_levels": sum(_depth(node) >= 4 for node in functions),
        "public_names_per_1000_lines": round(1000 * sum(map(_public_names, trees.values())) / lines, 1),
        "private_with_one_caller_percent": round(100 * called_once / len(functions), 1),
        "circles": len(circles(graph)),
        "longest_chain": len(chain),
        "chain": chain,
        "imports_per_module": round(sum(map(len, graph.values())) / len(graph), 1),
        "fullest_folder": [folder, files],
        "with_docstring_percent": round(100 * len(docs) / len(functions)),
        "docstring_begins_with_verb_percent": round(100 * verbs / len(docs)),
        "comments_per_100_lines": round(
            100 * sum(len(re.findall(r"(?:^|\s)# ", text)) for text in texts) / lines, 1
        ),
        "isinstance_of_a_task": len(task_checks(trees)),
        "dict_str_any": sum("dict[str, Any]" in line for text in texts for line in text.splitlines()),
        "module_names_used_twice": names_twice,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    measured = figures(parser.parse_args().root)
    for label, value in measured.items():
        print(f"{label.replace('_', ' '):<40}{value}")
    print(json.dumps(measured))
