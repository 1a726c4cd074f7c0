"""Small changes to a module's source, each of which some test ought to notice.

A mutant is one such change: `<` for `<=`, `+` for `-`, 2 for 1, a condition negated, a call or a
refusal left out. Annotations, docstrings and the wording of messages are left alone, because no
result depends on them.
"""

import ast
import copy
import dataclasses
from collections.abc import Iterator

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Mutant:
    """source with one change, made on this line; kind is the operator that made it."""

    line: int
    kind: str
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.line}: {self.kind}: {self.before} -> {self.after}"


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    places = list(_places(tree))
    places.sort(key=lambda node: (node.lineno, node.col_offset))
    for place in places:
        for kind, changed in _changes(place):
            twin = copy.deepcopy(tree)
            # The twin holds its own nodes; the place is found again by its position and kind.
            _replace(twin, place, changed)
            text = ast.unparse(ast.fix_missing_locations(twin))
            yield Mutant(place.lineno, kind, _told(place), _told(changed), text)


def _told(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:70]


def _places(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that may be changed: not annotations, docstrings, messages or imports."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        if isinstance(node, ast.Raise) and name in ("exc", "cause"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, ast.Import | ast.ImportFrom | ast.JoinedStr
            ):
                continue
            if _docstring(child) or _typing(child):
                continue
            if hasattr(child, "lineno"):
                yield child
            yield from _places(child)


def _docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _typing(node: ast.AST) -> bool:
    """Names for types, as `Params = dict[str, Any]`."""
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp) and (
        isinstance(node.targets[0], ast.Name) and node.targets[0].id[:1].isupper()
        and not node.targets[0].id.isupper()
    )  # fmt: skip


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            yield "comparison", _with(node, ops=[COMPARISONS[type(operator)]()])
        case ast.BinOp(op=operator) if type(operator) in ARITHMETIC:
            yield "arithmetic", _with(node, op=ARITHMETIC[type(operator)]())
        case ast.AugAssign(op=operator) if type(operator) in ARITHMETIC:
            yield "arithmetic", _with(node, op=ARITHMETIC[type(operator)]())
        case ast.BoolOp(op=operator):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield "logic", _with(node, op=other)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "sign", operand
        case ast.Constant(value=bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", ast.Constant(2.0 * value if value else 1.0)
        case ast.If() | ast.IfExp() | ast.While():
            yield "condition", _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Raise():
            yield "refusal", ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield "call", ast.Pass()
        case ast.Continue():
            yield "loop", ast.Break()
        case ast.Break():
            yield "loop", ast.Continue()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _replace(tree: ast.AST, place: ast.AST, changed: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            for index, child in enumerate(value if isinstance(value, list) else [value]):
                if _same(child, place):
                    if isinstance(value, list):
                        value[index] = changed
                    else:
                        setattr(parent, name, changed)
                    return
    raise LookupError(_told(place))


def _same(a: object, b: ast.AST) -> bool:
    where = ("lineno", "col_offset", "end_lineno", "end_col_offset")
    return type(a) is type(b) and all(getattr(a, n) == getattr(b, n) for n in where)
