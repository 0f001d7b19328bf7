"""What an expression of a Python file is, as far as one model is concerned: its class, a query of it, an instance."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from tasks.risk.models_named import last_name, text_of
from tasks.risk.sources import Module
from tasks.risk.target import Target

# "other": it is known to be something else; None: not known.
Kind = Literal["class", "query", "instance", "pair", "other"]
Names = Mapping[str, Kind | None]

GIVES_INSTANCE = {"get", "first", "last", "create", "earliest", "latest"}
GIVES_PAIR = {"get_or_create", "update_or_create"}
GIVES_VALUE = {"count", "exists", "aggregate", "in_bulk", "delete", "update", "bulk_create", "bulk_update", "explain"}
GIVES_ROWS = {"values", "values_list", "dates", "datetimes"}
SHORTCUTS: dict[str, Kind] = {"get_object_or_404": "instance", "get_list_or_404": "query"}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def within(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a scope, outer ones first; functions and classes in it are given without their bodies."""
    queue = list(body)[::-1]
    while queue:
        node = queue.pop()
        yield node
        if isinstance(node, FUNCTION):
            inner: list[ast.AST] = [*node.decorator_list, node.args]
        elif isinstance(node, ast.ClassDef):
            inner = [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]
        else:
            inner = list(ast.iter_child_nodes(node))
        queue += inner[::-1]


class Scopes:
    """Tells what the expressions of a file are."""

    def __init__(self, module: Module, target: Target) -> None:
        self.module, self.target = module, target
        self._classes = {made.key for made in target.classes}
        self._managers = {"objects", "_default_manager", "_base_manager"}.union(
            *(made.managers for made in target.family)
        )

    def is_class(self, node: ast.expr) -> bool:
        """Whether an expression names the model's class, by how it was imported."""
        target = self.target
        if isinstance(node, ast.Call):
            return self._is_looked_up(node)
        dotted = self.module.dotted_name(node) if target.model else None
        if dotted is None:
            return False
        origin, _, name = dotted.rpartition(".")
        if name.lower() != (target.model or "").lower():
            return False
        if origin:
            return target.in_app(origin)
        return (self.module.file, name) in self._classes

    def _is_looked_up(self, node: ast.Call) -> bool:
        name, target = last_name(node.func), self.target
        if name not in ("get_model", "get_user_model"):
            return False
        wanted = f"{target.label}.{target.model}".lower()
        if name == "get_user_model":
            return wanted in target.models.sources.user_models
        given = [text_of(argument) for argument in node.args[:2]]
        return ".".join(part for part in given if part).lower() == wanted

    def bindings(self, nodes: list[ast.AST], outer: Names, given: Names) -> dict[str, Kind | None]:
        """What the names of a scope are.

        Args:
            nodes: Of the scope.
            outer: The names around it.
            given: Its parameters.
        """
        names: dict[str, Kind | None] = {**outer, **given}
        for _ in range(3):  # a name may be made from one that is bound further down
            found: dict[str, set[Kind | None]] = defaultdict(set)
            for node in nodes:
                for name, kind in self._bound(node, names):
                    found[name].add(kind)
            new = {name: next(iter(kinds)) if len(kinds) == 1 else None for name, kinds in found.items()}
            after = {**outer, **given, **{name: kind for name, kind in new.items() if name not in given}}
            if after == names:
                break
            names = after
        return names

    def _bound(self, node: ast.AST, names: Names) -> Iterator[tuple[str, Kind | None]]:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from self._unpacked(target, self.kind(node.value, names))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            valued = self.kind(node.value, names) if node.value else None
            yield node.target.id, self.annotated(node.annotation) or valued
        elif isinstance(node, ast.NamedExpr):
            yield node.target.id, self.kind(node.value, names)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            each: Kind | None = "instance" if self.kind(node.iter, names) == "query" else None
            yield from self._unpacked(node.target, each)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield from self._unpacked(node.optional_vars, None)

    @staticmethod
    def _unpacked(target: ast.expr, kind: Kind | None) -> Iterator[tuple[str, Kind | None]]:
        if isinstance(target, ast.Name):
            yield target.id, kind
        elif isinstance(target, ast.Tuple | ast.List):
            for number, part in enumerate(target.elts):
                if isinstance(part, ast.Name):
                    yield part.id, "instance" if kind == "pair" and number == 0 else None

    def annotated(self, node: ast.expr | None) -> Kind | None:
        """What an annotation says of its name."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError):
                return None
        if isinstance(node, ast.BinOp):
            sides = {self.annotated(node.left), self.annotated(node.right)} - {None}
            return sides.pop() if len(sides) == 1 else None
        if isinstance(node, ast.Subscript):
            kind, name = self.annotated(node.slice), last_name(node.value)
            if kind == "instance":
                known: dict[str | None, Kind] = {"Optional": "instance", "QuerySet": "query", "type": "class"}
                return known.get(name)
            return None
        return "instance" if isinstance(node, ast.Name | ast.Attribute) and self.is_class(node) else None

    def kind(self, node: ast.expr, names: Names) -> Kind | None:
        """What an expression is."""
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id]
        if isinstance(node, ast.Name | ast.Attribute | ast.Call) and self.is_class(node):
            return "class"
        if isinstance(node, ast.Attribute):
            return self._attribute(node, names)
        if isinstance(node, ast.Call):
            return self._called(node, names)
        return self._composed(node, names)

    def _composed(self, node: ast.expr, names: Names) -> Kind | None:
        if isinstance(node, ast.Await | ast.NamedExpr | ast.Starred):
            return self.kind(node.value, names)
        if isinstance(node, ast.Subscript) and self.kind(node.value, names) == "query":
            return "query" if isinstance(node.slice, ast.Slice) else "instance"
        if isinstance(node, ast.IfExp | ast.BoolOp):
            parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values
            kinds = {self.kind(part, names) for part in parts}
            return kinds.pop() if len(kinds) == 1 else None
        return "other" if isinstance(node, ast.Constant | ast.List | ast.Dict | ast.JoinedStr) else None

    def _attribute(self, node: ast.Attribute, names: Names) -> Kind | None:
        if isinstance(node.value, ast.Name) and node.value.id == "self" and f"self.{node.attr}" in names:
            return names[f"self.{node.attr}"]
        of = self.kind(node.value, names)
        if node.attr in self._managers:
            if of == "class":
                return "query"
            named = last_name(node.value) or " "
            if of is None and named[0].isupper() and self.module.dotted_name(node.value):
                return "other"  # the manager of another model
        return "other" if of == "other" and node.attr in self._managers else None

    def _called(self, node: ast.Call, names: Names) -> Kind | None:
        function = node.func
        # Not `kind(function)`: what a long chain of methods begins with is to be looked at once, not twice a link.
        if (isinstance(function, ast.Name) and names.get(function.id) == "class") or self.is_class(function):
            return "instance"
        if isinstance(function, ast.Name):
            kind = SHORTCUTS.get(function.id)
            if kind and node.args:
                return kind if self.kind(node.args[0], names) in ("class", "query") else None
            return names.get("super()") if function.id == "super" else None
        if isinstance(function, ast.Attribute):
            held = f"self.{function.attr}()"
            if isinstance(function.value, ast.Name) and function.value.id == "self" and held in names:
                return names[held]
            return self._of_method(function.attr, self.kind(function.value, names))
        return None

    @staticmethod
    def _of_method(method: str, of: Kind | None) -> Kind | None:
        """What a method of a query gives; of something known to be none of the model's, nothing of it either."""
        if of != "query":
            return "other" if of == "other" else None
        method = method[1:] if method[:1] == "a" and method[1:] in GIVES_INSTANCE | GIVES_PAIR else method
        if method in GIVES_INSTANCE | GIVES_PAIR:
            return "instance" if method in GIVES_INSTANCE else "pair"
        # The rows that values() gives are not followed; any other method, the project's own too, gives a query.
        return None if method in GIVES_VALUE | GIVES_ROWS else "query"
