"""How a Python file names a model or a field of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tasks.risk import field_paths, sql_names
from tasks.risk.field_paths import KEYWORDS, METHODS, STRINGS, FieldPath
from tasks.risk.models_named import RELATIONS, last_name, text_of
from tasks.risk.scopes import FUNCTION, Kind, Names, Scopes, within
from tasks.risk.sources import Module
from tasks.risk.target import Target

LISTS = {"update_fields", "unique_fields", "defaults", "create_defaults", "fields", "field_name"}
NAMING = {"annotate", "alias", "values", "values_list"}  # a keyword of theirs is a new name
OPTIONS = {"fields", "exclude", "list_display", "list_display_links", "list_editable", "list_filter", "search_fields"}
OPTIONS |= {"ordering", "readonly_fields", "fieldsets", "prepopulated_fields", "date_hierarchy", "raw_id_fields"}
OPTIONS |= {"autocomplete_fields", "filter_horizontal", "filter_vertical", "radio_fields", "list_select_related"}
OPTIONS |= {"sortable_by", "read_only_fields", "extra_kwargs", "widgets", "labels", "help_texts", "field_classes"}
OPTIONS |= {"ordering_fields", "filterset_fields", "slug_field", "lookup_field", "unique_together", "index_together"}
OPTIONS |= {"indexes", "constraints", "get_latest_by", "order_with_respect_to"}


UseKind = Literal[
    "model definition",  # the ORM selects and inserts every field that a model defines
    "query",  # filter(total=1), order_by("-total"), F("customer__orders__total")
    "attribute",
    "constructor",
    "options",  # Meta, admin class, form, serializer, generic view
    "import",
    "name",  # models.Order
    "model string",  # "shop.Order", ForeignKey("Order")
    "SQL",
    "template",
    "string",
]


@dataclass(frozen=True)
class Use:
    """A line that names what is looked for."""

    line: int
    kind: UseKind
    certain: bool


def annotates(module: Module, target: Target) -> bool:
    """Whether a query of the file makes a result of the field's name by itself."""
    return any(
        isinstance(node, ast.Call)
        and last_name(node.func) in NAMING
        and any(keyword.arg in target.names for keyword in node.keywords)
        for node in ast.walk(module.tree)
    )


class PythonNames:
    """Finds the uses in one file.

    Args:
        module: The file.
        target: What is looked for.
        table: For SQL in strings; None: SQL is not looked at.
        column: The same; None: the table itself.
    """

    def __init__(self, module: Module, target: Target, table: str | None, column: str | None) -> None:
        self.module, self.target, self.table, self.column = module, target, table, column
        self.scopes = Scopes(module, target)
        self._seen: set[int] = set()  # strings that are told as something else, and names that are called
        self._registered = self._registrations()

    def uses(self) -> Iterator[Use]:
        """Every use, some lines more than once."""
        yield from self._scope(self.module.tree.body, {}, {})

    def _registrations(self) -> set[str]:
        """Admin classes that are registered for the model."""
        return {
            second.id
            for node in ast.walk(self.module.tree)
            if isinstance(node, ast.Call) and last_name(node.func) == "register" and len(node.args) > 1
            for first, second in [node.args[:2]]
            if isinstance(second, ast.Name) and self.scopes.is_class(first)
        }

    def _scope(
        self, body: list[ast.stmt], outer: Names, given: Names, held: dict[str, Kind | None] | None = None
    ) -> Iterator[Use]:
        """The uses in a scope and in those within it; `held` is given for the body of a class."""
        nodes = list(within(body))
        names = self.scopes.bindings(nodes, outer, given)
        for node in nodes:
            yield from self._node(node, names)
        inner = names if held is None else outer  # the body of a class is no scope of its methods
        for node in nodes:
            if isinstance(node, FUNCTION):
                yield from self._scope(node.body, inner, self._parameters(node, held or {}))
            elif isinstance(node, ast.ClassDef):
                about = self._held(node, names)
                yield from self._options(node, about)
                yield from self._scope(node.body, inner, {}, about)

    def _parameters(self, node: ast.FunctionDef | ast.AsyncFunctionDef, about: Names) -> dict[str, Kind | None]:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        given: dict[str, Kind | None] = {each.arg: self.scopes.annotated(each.annotation) for each in arguments}
        decorators = {last_name(decorator) for decorator in node.decorator_list}
        if about and arguments and "staticmethod" not in decorators:
            given |= about
            first = arguments[0].arg
            given[first] = about.get("cls" if "classmethod" in decorators else "self", given.get(first))
        return given

    def _held(self, node: ast.ClassDef, names: Names) -> dict[str, Kind | None]:
        """What `self` and what it holds are within a class."""
        target = self.target
        if (self.module.file, node.name) in {made.key for made in target.family}:
            return {"self": "instance", "cls": "class", "super()": None}
        managers = set().union(*(made.manager_classes for made in target.family))
        if node.name in managers and target.in_app(self.module.dotted):
            return {"self": "query", "super()": "query", "cls": "other", "self.get_queryset()": "query"}
        kinds: dict[str, Kind | None] = {"self": "other", "cls": "other", "super()": None}
        if self._is_about(node, names):
            kinds |= {"self.queryset": "query", "self.get_queryset()": "query", "self.object": "instance"}
            kinds |= {"self.get_object()": "instance", "self.instance": "instance"}
        return kinds

    def _is_about(self, node: ast.ClassDef, names: Names) -> bool:
        """Whether a form, serializer, admin class or view is the model's."""
        if node.name in self._registered:
            return True
        for decorator in node.decorator_list:
            registered = isinstance(decorator, ast.Call) and last_name(decorator) == "register"
            if registered and any(self.scopes.is_class(argument) for argument in getattr(decorator, "args", [])):
                return True
        for statement in node.body:
            if isinstance(statement, ast.ClassDef) and statement.name == "Meta" and self._is_about(statement, names):
                return True
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name, kind = statement.targets[0].id, self.scopes.kind(statement.value, names)
                if (name, kind) in (("model", "class"), ("queryset", "query")):
                    return True
        return False

    def _options(self, node: ast.ClassDef, held: Names) -> Iterator[Use]:
        """Names in `fields`, `list_display`, `ordering` and the like of a class that is the model's."""
        if node.name == "Meta" or not (held["self"] == "instance" or "self.queryset" in held):
            return  # a Meta is looked at with the class that it is in
        for body in (node, *(inner for inner in node.body if isinstance(inner, ast.ClassDef) and inner.name == "Meta")):
            declared = {
                getattr(target, "id", "")
                for statement in node.body
                for target in getattr(statement, "targets", [getattr(statement, "target", statement)])
            } | {statement.name for statement in node.body if isinstance(statement, FUNCTION)}
            own = not self.target.names.isdisjoint(declared) and held["self"] != "instance"
            for statement in body.body:
                if isinstance(statement, ast.Assign) and last_name(statement.targets[0]) in OPTIONS:
                    for use in self._uses(field_paths.in_names(statement.value, whole=True), True):
                        yield replace(use, kind="options", certain=use.certain and not own)

    def _node(self, node: ast.AST, names: Names) -> Iterator[Use]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            self._seen.add(id(node.value))  # a docstring
        elif isinstance(node, ast.Call):
            self._seen.add(id(node.func))
            if self.target.what == "field":
                yield from self._call(node, names)
            elif self.target.what == "model":
                yield from self._relation(node)
        elif isinstance(node, ast.Attribute) and id(node) not in self._seen:
            yield from self._attribute(node, names)
        elif isinstance(node, ast.ImportFrom) and self.target.what == "model":
            for alias in node.names:
                origin, name = self.module.imports.get(alias.asname or alias.name, ("", None))
                if name and self._is_model(name) and self.target.in_app(origin):
                    yield Use(getattr(alias, "lineno", node.lineno), "import", True)
        elif isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and id(node) not in self._seen:
            yield from self._string(node)

    def _is_model(self, name: str) -> bool:
        wanted = self.target.model or ""
        return name == wanted or (wanted.islower() and name.lower() == wanted)

    def _attribute(self, node: ast.Attribute, names: Names) -> Iterator[Use]:
        if self.target.what == "model":
            origin = self.module.dotted_name(node.value)
            if origin and self._is_model(node.attr) and self.target.in_app(origin):
                yield Use(node.lineno, "name", True)
        elif node.attr in self.target.names and not self.target.shadowed:
            kind = self.scopes.kind(node.value, names)
            imported = isinstance(node.value, ast.Name) and node.value.id in self.module.imports
            if kind in ("instance", "class"):
                yield Use(node.end_lineno or node.lineno, "attribute", isinstance(node.ctx, ast.Load))
            elif kind is None and not imported:
                yield Use(node.end_lineno or node.lineno, "attribute", False)

    def _call(self, node: ast.Call, names: Names) -> Iterator[Use]:
        name, function = last_name(node.func) or "", node.func
        if isinstance(function, ast.Attribute) and name not in ("Q", "F"):
            yield from self._listed(node, function)
            yield from self._method(node, function, names)
        elif self.scopes.kind(function, names) == "class":
            for keyword in node.keywords:
                if keyword.arg in self.target.names:
                    yield Use(keyword.value.lineno, "constructor", True)
        elif name in ("Q", "F", "When", "Prefetch"):
            yield from self._uses(field_paths.in_names(node), None)

    def _listed(self, node: ast.Call, function: ast.Attribute) -> Iterator[Use]:
        """`"id title total".split()`."""
        text = text_of(function.value)
        if function.attr == "split" and text and not self.target.names.isdisjoint(text.replace(",", " ").split()):
            yield Use(node.lineno, "string", False)

    def _method(self, node: ast.Call, function: ast.Attribute, names: Names) -> Iterator[Use]:
        name = function.attr
        of = self.scopes.kind(function.value, names) or self._root(function.value, names)
        rooted = {"query": True, "class": True, "instance": True, "other": False}.get(of or "")
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in LISTS:
                yield from self._uses(field_paths.in_names(keyword.value), rooted)
            elif name in METHODS:
                if name in KEYWORDS:
                    yield from self._path(FieldPath(keyword.arg, keyword.value.lineno), rooted)
                yield from self._uses(field_paths.in_expression(keyword.value), rooted)
        for argument in node.args if name in METHODS else ():
            named = field_paths.in_names(argument) if name in STRINGS else field_paths.in_expression(argument)
            yield from self._uses(named, rooted)

    def _root(self, node: ast.expr, names: Names) -> Kind | None:
        """What a chain of calls begins with, where its last link is not followed (the rows of values())."""
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func.value
            kind = self.scopes.kind(node, names)
            if kind is not None:
                return kind
        return None

    def _uses(self, paths: Iterator[FieldPath], rooted: bool | None) -> Iterator[Use]:
        for path in paths:
            self._seen.add(id(path.string))
            yield from self._path(path, rooted)

    def _path(self, path: FieldPath, rooted: bool | None) -> Iterator[Use]:
        """Whether a path leads to the field; `rooted` tells if it begins at the model (None: not known)."""
        steps = path.text.lstrip("-+=^@?").split("__")
        for before, step in zip([None, *steps], steps, strict=False):
            if step in self.target.names:
                if before is None and rooted is not False:
                    yield Use(path.line, "query", rooted is True)
                elif before in self.target.leading:
                    yield Use(path.line, "query", True)

    def _relation(self, node: ast.Call) -> Iterator[Use]:
        """A relation to the model by its bare name within the app, or get_model with two names."""
        name, target = last_name(node.func) or "", self.target
        if name == "get_model" and self.scopes.is_class(node):
            yield Use(node.lineno, "model string", True)
        elif name in RELATIONS or name.endswith(("ForeignKey", "OneToOneField")):
            to = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg in ("to", "through"))]
            for each in to:
                text = text_of(each)
                if text and text.lower() == (target.model or "").lower() and target.in_app(self.module.dotted):
                    yield Use(each.lineno, "model string", True)

    def _string(self, node: ast.expr) -> Iterator[Use]:
        """SQL, the dotted name of the model, or just the word."""
        text, target = self._text(node), self.target
        if text is None:
            return
        found = list(sql_names.uses(text, self.table, self.column)) if self.table and " " in text else []
        word = (self.column or self.table or "").lower()
        for offset, certain in found:
            yield Use(self._line(node, text, offset, word), "SQL", certain)
        if found or not isinstance(node, ast.Constant):
            return
        if target.what == "field" and text in target.names:
            yield Use(node.lineno, "string", False)
        elif target.what == "model" and text.lower() == f"{target.label}.{target.model}".lower():
            yield Use(node.lineno, "model string", self._is_model(text.rpartition(".")[2]))
        elif target.what != "field" and self.table and text == self.table:
            yield Use(node.lineno, "string", False)

    def _text(self, node: ast.expr) -> str | None:
        """A string with {} for what is put in at run time; its parts are not looked at again."""
        if isinstance(node, ast.Constant):
            return text_of(node)
        parts: list[ast.expr] = []
        if isinstance(node, ast.JoinedStr):
            parts = node.values
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            parts = [node.left, node.right] if isinstance(node.op, ast.Add) else [node.left]
        texts = [self._text(part) for part in parts]
        if not any(texts):
            return None
        self._seen |= {id(part) for part in parts if isinstance(part, ast.Constant | ast.JoinedStr | ast.BinOp)}
        return "".join("{}" if text is None else text for text in texts)

    def _line(self, node: ast.expr, text: str, offset: int, word: str) -> int:
        """The line of a match: the quotes and line ends of the source are not those of the string."""
        first = int(node.lineno) + text.count("\n", 0, offset)
        last = max(node.end_lineno or first, first)
        lines = self.module.lines
        near = (line for line in (*range(first, last + 1), *range(node.lineno, first)) if line <= len(lines))
        return next((int(line) for line in near if word in lines[line - 1].lower()), int(node.lineno))
