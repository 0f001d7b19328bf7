"""The expressions of a data migration: what they stand for, and what their calls do."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.risk.model_tables import table_of
from tasks.risk.python_conditions import is_short
from tasks.risk.python_schema import change_schema
from tasks.risk.python_source import Imported
from tasks.risk.python_texts import (
    HARMLESS,
    MAIL,
    OF_FIELD,
    SAME_ELEMENTS,
    TASKS,
    grows,
    imported_value,
    reaching_out,
    text_of,
)
from tasks.risk.values import (
    MANAGERS,
    OTHER,
    SAME,
    SINGLE,
    Kind,
    Value,
    asked,
    element_of,
    filtered,
    is_bounded,
    model_label,
)

if TYPE_CHECKING:
    from tasks.risk.data_migrations import Reading


class Calls:
    """Evaluates expressions for a `Reading`, as far as rows are concerned."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def value(self, node: ast.expr) -> Value:  # noqa: C901, PLR0911, PLR0912 - one branch for each form
        """What an expression stands for; the calls in it are noted."""
        match node:
            case ast.Name():
                return self.name(node.id)
            case ast.Constant():
                return Value("literal", text=node.value if isinstance(node.value, str) else None)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Call():
                return self.call(node)
            case ast.Subscript():
                return self.subscript(node)
            case ast.Tuple() | ast.List() | ast.Set():
                items = tuple(map(self.value, node.elts))
                made = [item for item in items if item.kind == "row"]
                return Value(
                    "tuple", made[0].model if made else "", limited=True, new=bool(made) and made[0].new, items=items
                )
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return self.comprehension(node.generators, node.elt)
            case ast.JoinedStr() | ast.BinOp():
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child)
                text = text_of(self, node)
                return Value("literal", text=text) if text is not None else OTHER
            case ast.Yield() if node.value is not None:
                given = self.value(node.value)
                kind: Kind = "batches" if given.kind in ("query", "rows") else "other"
                self.reading.returned = replace(given, kind=kind, limited=False, text=None, items=())
                return OTHER
            case ast.NamedExpr():
                given = self.value(node.value)
                self.reading.bind(node.target, given, None)
                return given
            case ast.Lambda():
                return OTHER  # runs when it is called
            case ast.IfExp() | ast.BoolOp():
                parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values
                return next((given for given in map(self.value, parts) if given.kind != "other"), OTHER)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return Value("literal") if isinstance(node, ast.Dict) else OTHER

    def name(self, name: str) -> Value:
        """What a name stands for."""
        reading = self.reading
        if name in reading.names:
            return reading.names[name]
        if name in reading.module.imports and name not in reading.module.functions:
            return imported_value(reading.module.imports[name])
        constant = reading.module.constants.get(name)
        if isinstance(constant, ast.List | ast.Tuple | ast.Set):
            return self.value(constant)
        if isinstance(constant, ast.Dict | ast.ListComp):
            return Value("literal")
        text = text_of(self, constant) if constant is not None else None
        return Value("literal", text=text) if text is not None else OTHER

    def attribute(self, node: ast.Attribute) -> Value:  # noqa: PLR0911 - one branch for each form
        """What `x.y` stands for where it is not called."""
        base = self.value(node.value)
        if base.kind == "model" and node.attr in MANAGERS:
            self.real(base, node)
            return Value("query", base.model, real=base.real)
        if base.kind == "module":
            return imported_value(Imported(base.text or "", node.attr))
        if base.kind == "row" and node.attr not in ("pk", "id"):
            return Value("other", limited=True)  # a field, or the rows related to one row
        if node.attr == "object_list" or base.kind in ("query", "rows", "cursor"):
            return base
        if base.kind == "field" and node.attr in OF_FIELD:
            return Value("literal", text=base.text)
        if node.attr == "vendor" and "connection" in ast.unparse(node.value):
            return Value("vendor", text="postgresql")
        if node.attr == "db_table" and base.model:  # Model._meta.db_table
            return Value("literal", text=table_of(self.reading.case, base.model))
        return Value("other", base.model) if node.attr == "_meta" else OTHER

    def subscript(self, node: ast.Subscript) -> Value:
        """A slice of a queryset or a list, or one element."""
        base = self.value(node.value)
        self.value(node.slice)
        if isinstance(node.slice, ast.Slice):
            return replace(base, limited=base.limited or node.slice.upper is not None)
        return element_of(base)

    def comprehension(self, generators: list[ast.comprehension], element: ast.expr) -> Value:
        """A list made in a loop."""
        over = OTHER
        kinds: list[str] = []
        for generator in generators:
            over = self.value(generator.iter)
            self.reading.bind(generator.target, element_of(over), None)
            kinds.append("few" if is_bounded(over) else "rows")
        with self.reading.inside(*kinds):
            made = self.value(element)
            for condition in (each for generator in generators for each in generator.ifs):
                self.value(condition)
        return Value("rows", made.model or over.model, limited="rows" not in kinds, new=made.new, nulls=over.nulls)

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, node: ast.Call) -> Value:
        """What a call gives, and note what it does."""
        arguments = [self.value(argument) for argument in node.args]
        keywords = {each.arg or "**": self.value(each.value) for each in node.keywords}
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value)
            return self.method(node, base, node.func.attr, arguments, keywords)
        if isinstance(node.func, ast.Name):
            return self.function(node, node.func.id, self.name(node.func.id), arguments, keywords)
        base = self.value(node.func)
        return self.unresolved(node, "a function that is computed", [base, *arguments, *keywords.values()])

    def method(  # noqa: C901, PLR0911, PLR0912 - one branch for each form
        self, node: ast.Call, base: Value, name: str, arguments: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """A call of a method."""
        reading = self.reading
        if name in TASKS:
            reading.mark(reading.code.outside, f".{name}() hands work to a task queue", node)
            return OTHER
        if name in ("execute", "executemany"):
            return self.execute(node, base)
        if base.kind == "apps" and name == "get_model":
            return Value("model", model_label(node, arguments))
        if base.kind == "editor":
            change_schema(self, node, name, arguments)
            return OTHER
        if name == "schema_editor":
            return Value("editor")
        if name == "get_field" and base.model and arguments:
            return Value("field", base.model, text=arguments[0].text)
        if name == "sequence_reset_sql":
            return Value("tuple", limited=True, items=(Value("literal", text="SELECT setval('a_sequence', 1)"),))
        if base.text and (beyond := reaching_out(f"{base.text}.{name}")):
            reading.mark(reading.code.outside, beyond, node)
            return OTHER
        if base.kind == "module":
            target = imported_value(Imported(base.text or "", name))
            return self.function(node, name, target, arguments, keywords)
        if name == "cursor":
            return Value("cursor")
        if base.kind in ("query", "keys"):
            return self.query(node, base, name, arguments, keywords)
        if base.kind == "row":
            return self.row(node, base, name)
        if name == "append" and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            self.append(node.func.value.id, arguments[0] if arguments else OTHER)
        elif name == "save" and reading.looped:
            reading.write("save", OTHER, node)
        elif (
            name in ("update", "delete")
            and isinstance(node.func, ast.Attribute)
            and base.limited
            and base.kind == "other"
        ):
            reading.write(name, Value("query", limited=True), node, [each.arg or "" for each in node.keywords])
        elif name in SAME or name in ("filter", "page", "get_page"):
            return replace(base, kind="rows", limited=True) if base.kind == "batches" else base
        return OTHER

    def append(self, name: str, added: Value) -> None:
        """A list that grows: as long as the loop around it."""
        if added.kind in ("row", "other") and name in self.reading.names:
            before = self.reading.names[name]
            limited = not self.reading.looped and before.kind in ("tuple", "literal")
            self.reading.names[name] = Value("rows", added.model, limited=limited, new=added.new, nulls=added.nulls)

    def query(  # noqa: C901, PLR0911, PLR0912 - one branch for each form
        self, node: ast.Call, base: Value, name: str, arguments: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """A method of a manager or a queryset."""
        reading = self.reading
        fields = [each.arg or "" for each in node.keywords]
        if name == "filter":
            return filtered(base, node, keywords)
        if name == "exclude":
            return replace(base, asked=base.asked | asked(node, keywords))
        if name == "values_list":
            return replace(base, kind="keys")
        if name in SINGLE:
            return Value("row", base.model, limited=True)
        if name == "update":
            own = any(grows(each.arg or "", each.value) for each in node.keywords)
            reading.write("update", base, node, fields, own=own)
        elif name in ("delete", "_raw_delete"):
            reading.write("delete", base, node)
        elif name == "bulk_update":
            objects = arguments[0] if arguments else keywords.get("objs", OTHER)
            listed = (
                node.args[1]
                if len(node.args) > 1
                else next((k.value for k in node.keywords if k.arg == "fields"), None)
            )
            names = [str(each.value) for each in getattr(listed, "elts", []) if isinstance(each, ast.Constant)]
            group = node.args[0].id if node.args and isinstance(node.args[0], ast.Name) else ""
            rows = replace(objects, model=base.model, nulls=objects.nulls)
            reading.write("bulk_update", rows, node, names, group=group)
        elif name in ("create", "bulk_create"):
            guarded = any(each.arg in ("ignore_conflicts", "update_conflicts") for each in node.keywords)
            with reading.inside(*(["asked"] if guarded else [])):
                reading.write("create", replace(base, limited=True), node)
            return Value("row", base.model, limited=True)
        elif name in ("get_or_create", "update_or_create"):
            row = Value("row", base.model, limited=True)
            return Value("tuple", base.model, limited=True, items=(row, OTHER))
        elif name in ("exists", "count", "aggregate", "contains", "explain"):
            return OTHER
        elif name == "in_bulk":
            return replace(base, kind="rows", limited=bool(arguments))
        elif name == "none":
            return replace(base, limited=True)
        else:
            return base
        return OTHER

    def row(self, node: ast.Call, base: Value, name: str) -> Value:
        """A method of a row."""
        reading = self.reading
        variable = (
            node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        )
        if name == "save":
            fields = reading.changed.get(variable, [])
            verb = "create" if base.new else "save"
            reading.write(verb, base, node, dict.fromkeys(fields), own=variable in reading.own_values)
        elif name == "delete":
            reading.write("delete", base, node)
        return OTHER

    def execute(self, node: ast.Call, base: Value) -> Value:
        """SQL that is executed by a cursor, a schema editor or a connection."""
        text = text_of(self, node.args[0]) if node.args else None
        if text is not None:
            self.reading.sql(text, node)
        elif base.kind in ("cursor", "editor", "other"):
            self.reading.mark(self.reading.code.unknown, "the SQL that it executes is put together when it runs", node)
        return base

    def function(  # noqa: PLR0911 - one branch for each form
        self, node: ast.Call, name: str, target: Value, arguments: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """A call of a function or a class by its name."""
        reading = self.reading
        if target.kind == "model":
            self.real(target, node)
            return Value("row", target.model, limited=True, new=True)
        if name in SAME_ELEMENTS and arguments:
            given = arguments[-1] if name == "filter" else arguments[0]
            return replace(given, kind="rows") if given.kind == "query" else given
        if name == "enumerate" and arguments:
            row = element_of(arguments[0])
            return replace(arguments[0], kind="batches", items=()) if row.kind != "row" else arguments[0]
        if any(word in name.lower() for word in ("chunk", "batch", "islice", "paginator")) and arguments:
            found = next((each for each in arguments if each.kind in ("query", "keys", "rows")), None)
            own = reading.local.get(name) or reading.module.function_of(name, target.text or "")
            if found is not None and own is None:
                return replace(found, kind="rows" if name == "islice" else "batches", limited=name == "islice")
        if name == "range":
            return Value("literal", limited=True) if is_short(node) else OTHER
        if name == "get_user_model":
            return Value("model", "auth.User", real=True)
        beyond = f"{name}() reaches beyond the database" if name in MAIL else reaching_out(target.text or "")
        if beyond:
            reading.mark(reading.code.outside, beyond, node)
            return OTHER
        if name == "call_command":
            reading.mark(reading.code.unknown, "what the management command does is not known", node)
            return OTHER
        return self.follow(node, name, target, arguments, keywords)

    def follow(
        self, node: ast.Call, name: str, target: Value, arguments: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """Walk through a function that is called, where its source is there."""
        reading = self.reading
        local = reading.local.get(name)
        own = (reading.module, local) if local else reading.module.function_of(name, target.text or "")
        if own is not None:
            kept, (reading.module, function) = reading.module, own
            try:
                return reading.function(function, arguments, keywords)
            finally:
                reading.module = kept
        return self.unresolved(node, f"{name}()", [*arguments, *keywords.values()])

    def unresolved(self, node: ast.Call, name: str, given: list[Value]) -> Value:
        """A call that cannot be followed: of interest if it gets something to change rows with."""
        can_write = any(each.kind in ("apps", "editor", "cursor", "model", "query") for each in given)
        if can_write and name.removesuffix("()") not in HARMLESS:
            self.reading.mark(self.reading.code.unknown, f"what {name} does with the rows could not be followed", node)
        return OTHER

    def real(self, model: Value, node: ast.AST) -> None:
        """Note that a class of the application is used."""
        if model.real:
            self.reading.mark(self.reading.code.real_models, model.model, node)
