"""Small mutations of the formulas: one expression of rebar/core or rebar/estimators is changed."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

SWAPPED: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.LtE, ast.LtE: ast.GtE},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
}
REDUCTIONS = {"reduce_mean": "reduce_sum", "reduce_sum": "reduce_mean"}


class Mutation(NamedTuple):
    """A replacement in a file.

    Attributes:
      kind: what is changed, e.g. "sign".
      file: the file.
      line: its line, from 1.
      start, end: position in bytes.
      old, new: the expression and its replacement.
      context: text of the line.
    """

    kind: str
    file: Path
    line: int
    start: int
    end: int
    old: str
    new: str
    context: str

    def __str__(self) -> str:
        old = " ".join(self.old.split())
        return f"{self.file.relative_to(ROOT)}:{self.line}: {old} -> {self.new}  in {self.context}"


def replacements(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Kinds of mutations of a node, and the expressions that replace it."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in SWAPPED:
            if not any(isinstance(side, ast.List | ast.Tuple) for side in (left, right)):
                yield "operator", ast.unparse(ast.BinOp(left, SWAPPED[type(op)](), right))
        case ast.Compare(left, [op], [right]) if type(op) in SWAPPED:
            yield "comparison", ast.unparse(ast.Compare(left, [SWAPPED[type(op)]()], [right]))
        case ast.UnaryOp(ast.USub(), operand):
            yield "sign", f"({ast.unparse(operand)})"
        case ast.Constant(bool()):
            return
        case ast.Constant(int(value)):
            yield "constant", str(value + 1)
        case ast.Constant(float(value)):
            yield "constant", str(0.8 * value or 1.0)
        case ast.Call(ast.Attribute(attr="stop_gradient"), [argument]):
            yield "stop_gradient", f"({ast.unparse(argument)})"
        case ast.Call(ast.Attribute(owner, name), arguments, keywords) if name in REDUCTIONS:
            function = ast.Attribute(owner, REDUCTIONS[name])
            yield "reduction", ast.unparse(ast.Call(function, arguments, keywords))
        case ast.Call(function, [first, second, *rest], keywords):
            starred = any(isinstance(a, ast.Starred) for a in (first, second))
            if not starred and ast.dump(first) != ast.dump(second):
                yield "arguments", ast.unparse(ast.Call(function, [second, first, *rest], keywords))
        case ast.Subscript(value, ast.Name() | ast.BinOp() as index):
            yield "index", f"{ast.unparse(value)}[{ast.unparse(index)} - 1]"


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one that compute, without messages of errors and annotations."""
    for field, child in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for one in child if isinstance(child, list) else [child]:
            if isinstance(one, ast.AST) and not isinstance(one, ast.Raise | ast.JoinedStr):
                yield one
                yield from executed(one)


def mutations(file: Path) -> Iterator[Mutation]:
    """All mutations of a file."""
    text = file.read_bytes()
    lines = text.splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    for node in executed(ast.parse(text)):
        for kind, new in replacements(node):
            first, last = node.lineno - 1, node.end_lineno - 1
            start, end = starts[first] + node.col_offset, starts[last] + node.end_col_offset
            old, context = text[start:end].decode(), lines[first].decode().strip()
            yield Mutation(kind, file, node.lineno, start, end, old, new, context)


def choose(count: int, seed: int, only: str = "") -> list[Mutation]:
    """Draw mutations of the files with `only` in their names, each kind with equal probability.

    Otherwise most would be swapped arguments, which are noticed because the call fails.
    """
    files = sorted(f for p in ("core", "estimators") for f in (ROOT / "rebar" / p).glob("*.py"))
    kinds: dict[str, list] = {}
    for file in files:
        if only in str(file.relative_to(ROOT)):
            for mutation in mutations(file):
                kinds.setdefault(mutation.kind, []).append(mutation)
    generator, chosen = random.Random(seed), []
    while kinds and len(chosen) < count:
        kind = generator.choice(sorted(kinds))
        chosen.append(kinds[kind].pop(generator.randrange(len(kinds[kind]))))
        kinds = {name: remaining for name, remaining in kinds.items() if remaining}
    return chosen
