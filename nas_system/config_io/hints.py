"""What to write instead: the hints for everything that a config.py may not hold."""

from __future__ import annotations

import ast
import operator
import re
from typing import Any

WORDS = {
    "true": "write True",
    "false": "write False",
    "none": "write None",
    "null": "write None",
    "nan": "nan is not a number that can be used; write a finite one",
    "inf": "inf is not a number that can be used; write a finite one",
}
"""Names that stand for values elsewhere."""


def why_no_statement(node: ast.stmt) -> str:
    """Why a statement is refused, and what to write."""
    match node:
        case ast.Expr():
            return "this line assigns nothing; write name = value, or # before a comment"
        case ast.AnnAssign():
            return "annotations are refused; write name = value"
        case ast.AugAssign() | ast.Delete():
            return "a value that is changed later is refused; write it once, in its place"
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            return "a single key cannot be assigned; write it inside the braces"
        case ast.Assign():
            return "one name is assigned at a time; write name = value"
        case ast.ImportFrom():
            return "relative imports are refused; write 'import torch.optim as optim'"
    return f"{_words(node)} is code, and this file is data; only name = value is read"


def why_no_value(node: ast.expr, usual: str) -> str:
    """Why an expression is refused, and what to write; `usual` spells the class that is called, if any."""
    match node:
        case ast.Call() if usual:
            return f"a call is not executed; write {usual}, without parentheses"
        case ast.Call(func=ast.Name(id="dict")):
            return 'dict(...) is a call and is not executed; write {"key": value}'
        case ast.Call():
            return "a call is not executed; write its result"
        case ast.BinOp() | ast.UnaryOp():
            number = _small_arithmetic(node)
            return "arithmetic is not evaluated; write " + ("the result" if number is None else repr(number))
        case ast.JoinedStr():
            return "f-strings are refused; write a plain string"
        case ast.Set():
            return "a set is no value here; write a list in [ ]"
        case ast.Starred():
            return "* is refused; write the items out"
    return f"{_words(node)} is no value here; write a number, a string, True, False, None, [...] or {{...}}"


def _words(node: ast.AST) -> str:
    """`ListComp` -> "list comp"; good enough to find the place in the line."""
    return re.sub("(?<!^)([A-Z])", r" \1", type(node).__name__).lower()


_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


def _small_arithmetic(node: ast.expr) -> int | float | None:
    """What `24 * 14` comes to, for the hint alone; None for anything large, odd or not a number."""
    result: Any = None
    match node:
        case ast.Constant(value=int() | float() as result):
            pass
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _small_arithmetic(operand)
            result = None if inner is None else -inner
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            left, right = _small_arithmetic(node.left), _small_arithmetic(node.right)
            if left is None or right is None or (isinstance(op, ast.Pow) and abs(right) > 20):
                return None
            try:
                result = _ARITHMETIC[type(op)](left, right)
            except (ZeroDivisionError, OverflowError):
                return None
    return result if isinstance(result, int | float) and abs(result) < 1e9 else None
