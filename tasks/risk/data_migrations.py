"""What the Python of a data migration does to rows, read from its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tasks.risk.history import Operation
from tasks.risk.model_tables import table_of
from tasks.risk.python_calls import Calls
from tasks.risk.python_conditions import truth
from tasks.risk.python_source import Function, Module, read_module
from tasks.risk.rule import Case
from tasks.risk.values import OTHER, Value, element_of, is_bounded, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH = 5  # functions that call functions are followed so far


@dataclass(frozen=True)
class Mark:
    """A place in the code, and what stands there."""

    text: str
    file: str
    line: int


@dataclass(frozen=True)
class Write:
    """One call that changes, deletes or makes rows."""

    verb: str  # "update", "delete", "save", "bulk_update" or "create"
    model: str
    table: str
    file: str
    line: int
    whole: bool  # one call over as many rows as there are
    looped: bool  # again and again, as often as there are rows or batches
    held: bool  # with everything else in one transaction
    fields: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ()  # fields that are NULL in the rows that are touched
    own_value: bool = False  # from the value that is there: a second run changes it again
    guarded: bool = False  # under a condition that asks the database
    group: str = ""  # the variable that holds the rows of a bulk_update
    asked: frozenset[str] = frozenset()  # fields by which the rows are chosen
    call: ast.Call | None = field(default=None, compare=False)  # as it is written


@dataclass(frozen=True)
class Raw:
    """SQL that the code executes."""

    sql: str
    file: str
    line: int
    in_transaction: bool
    looped: bool
    held: bool  # with every other turn of the loop in one transaction


@dataclass
class Code:
    """Everything that was found."""

    writes: list[Write] = field(default_factory=list)
    raw: list[Raw] = field(default_factory=list)
    real_models: list[Mark] = field(default_factory=list)
    outside: list[Mark] = field(default_factory=list)  # what reaches beyond the database
    unknown: list[Mark] = field(default_factory=list)  # what could not be followed


def read_code(case: Case) -> Code:
    """What the Python of an operation does; empty for one that does nothing by its own word."""
    told = case.operation["code"]
    code = Code()
    if told is None or told["name"].endswith("RunPython.noop"):
        return code
    file = told["file"] or case.migration.file or ""
    module, function = _source_of(case, told)
    if module is None or function is None:
        code.unknown.append(Mark(f"the source of {told['name']} was not found", file, told["line"] or 1))
        return code
    arguments = [Value("apps"), Value("editor")]
    in_transaction = case.migration.atomic or bool(case.operation["atomic"])
    try:
        Reading(case, code, module, in_transaction).function(function, arguments, {})
    except RecursionError:
        code.unknown.append(Mark(f"{told['name']} is too deeply nested to be followed", file, told["line"] or 1))
    flushed = {write.group for write in code.writes if write.looped and write.group}
    # What is left over after a loop of full batches is no more than a batch.
    code.writes = [replace(write, whole=False) if write.group in flushed else write for write in code.writes]
    return code


def only_refuses(case: Case, told: Operation | None) -> bool:
    """Whether a function of a migration does nothing but raise an exception."""
    _, function = _source_of(case, told) if told and told["file"] else (None, None)
    if function is None or isinstance(function, ast.Lambda):
        return False
    body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return len(body) == 1 and isinstance(body[0], ast.Raise)


def _source_of(case: Case, told: Operation) -> tuple[Module | None, Function | None]:
    """The module and the function that the probe names; None where they are not found."""
    module = read_module(case.source / told["file"]) if told["file"] else None
    name = told["name"].rpartition(".")[2]
    return module, module.function_at(name, told["line"]) if module and told["line"] else None


class Reading:
    """Walks through a function and the functions it calls."""

    def __init__(self, case: Case, code: Code, module: Module, in_transaction: bool) -> None:
        self.case, self.code, self.module, self.in_transaction = case, code, module, in_transaction
        self.names: dict[str, Value] = {}
        self.local: dict[str, Function] = {}
        self.around: list[str] = []  # "rows" (a loop without a limit), "few", "atomic", "asked"
        self.followed: list[Function] = []
        self.changed: dict[str, list[str]] = {}  # variable to the fields assigned to it
        self.own_values: set[str] = set()
        self.returned = OTHER
        self.calls = Calls(self)

    # -- what is found -----------------------------------------------------------------------------------------------

    def mark(self, found: list[Mark], text: str, node: ast.AST) -> None:
        """Note a place, once."""
        mark = Mark(text, self.file, getattr(node, "lineno", 1))
        if mark not in found:
            found.append(mark)

    @property
    def file(self) -> str:
        """The file being read, relative to the checkout where it lies there."""
        path, source = self.module.path, self.case.source
        return str(path.relative_to(source)) if path.is_relative_to(source) else str(path)

    @property
    def looped(self) -> bool:
        """Whether it is done as often as there are rows or batches."""
        return "rows" in self.around

    @property
    def held(self) -> bool:
        """Whether all turns of the loops around are one transaction."""
        if self.in_transaction or not self.looped:
            return self.in_transaction
        last = len(self.around) - 1 - self.around[::-1].index("rows")
        return "atomic" in self.around[:last]

    def write(
        self, verb: str, value: Value, node: ast.AST, fields: Iterable[str] = (), own: bool = False, group: str = ""
    ) -> None:
        """Note a write."""
        whole = verb in ("update", "delete", "bulk_update") and not value.limited
        if verb == "bulk_update" and self.looped:
            whole = False
        found = Write(
            verb,
            value.model,
            table_of(self.case, value.model),
            self.file,
            getattr(node, "lineno", 1),
            whole,
            self.looped,
            self.held,
            tuple(filter(None, fields)),  # update(**values) names none
            value.nulls,
            own,
            "asked" in self.around,
            group,
            value.asked,
            node if isinstance(node, ast.Call) else None,
        )
        if found not in self.code.writes:  # a loop over constants is walked through once for each
            self.code.writes.append(found)

    def sql(self, text: str, node: ast.AST) -> None:
        """Note SQL that is executed."""
        in_transaction = self.in_transaction or "atomic" in self.around
        raw = Raw(text, self.file, getattr(node, "lineno", 1), in_transaction, self.looped, self.held)
        if raw not in self.code.raw:
            self.code.raw.append(raw)

    # -- functions and statements ------------------------------------------------------------------------------------

    def function(self, function: Function, arguments: Sequence[Value], keywords: dict[str, Value]) -> Value:
        """Walk through a call of a function of `self.module`; what it returns."""
        if function in self.followed or len(self.followed) >= DEPTH:
            return OTHER
        names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        kept = (self.names, self.local, self.returned, self.changed, self.own_values)
        self.names = {**dict(zip(names, arguments, strict=False)), **keywords}
        self.local, self.returned, self.changed, self.own_values = {}, OTHER, {}, set()
        self.followed.append(function)
        around = list(self.around)
        try:
            if isinstance(function, ast.Lambda):
                return self.calls.value(function.body)
            if any(_last_name(decorator) == "atomic" for decorator in function.decorator_list):
                self.around.append("atomic")
            self.block(function.body)
            return self.returned
        finally:
            self.followed.pop()
            self.around = around
            self.names, self.local, self.returned, self.changed, self.own_values = kept

    def block(self, body: Iterable[ast.stmt]) -> None:
        """Walk through statements, up to where another database's branch or this one's end is certain."""
        for statement in body:
            if isinstance(statement, ast.If) and (taken := truth(self.calls, statement.test)) is not None:
                chosen = statement.body if taken else statement.orelse
                self.block(chosen)
                if any(isinstance(each, ast.Return | ast.Raise) for each in chosen):
                    return
            else:
                self.statement(statement)

    @contextmanager
    def inside(self, *what: str) -> Iterator[None]:
        """Walk through something that stands in a loop, a transaction or a condition."""
        self.around.extend(what)
        try:
            yield
        finally:
            del self.around[len(self.around) - len(what) :]

    def statement(self, node: ast.stmt) -> None:  # noqa: C901, PLR0912 - one branch for each form
        """Walk through one statement."""
        value = self.calls.value
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.local[node.name] = node
            case ast.Import() | ast.ImportFrom():
                pass  # the module's table of imports has those of functions too
            case ast.Assign():
                given = value(node.value)
                for target in node.targets:
                    self.bind(target, given, node.value)
            case ast.AnnAssign() if node.value is not None:
                self.bind(node.target, value(node.value), node.value)
            case ast.AugAssign():
                value(node.value)
                self.note_field(node.target, own=True)
            case ast.For() | ast.AsyncFor():
                over = value(node.iter)
                for element in texts_of(over) or [element_of(over)]:
                    self.bind(node.target, element, None)
                    with self.inside("few" if is_bounded(over) else "rows"):
                        self.block(node.body)
                self.block(node.orelse)
            case ast.While():
                with self.inside("rows"):
                    value(node.test)
                    self.block(node.body)
            case ast.With() | ast.AsyncWith():
                entered = [self.enter(item) for item in node.items]
                with self.inside(*(["atomic"] if any(entered) else [])):
                    self.block(node.body)
            case ast.If():
                value(node.test)
                asks = any(isinstance(each, ast.Attribute) and each.attr == "exists" for each in ast.walk(node.test))
                with self.inside(*(["asked"] if asks else [])):
                    self.block(node.body)
                    self.block(node.orelse)
                if asks and any(isinstance(each, ast.Return) for each in node.body):
                    self.around.append("asked")  # what follows runs only if nothing was there
            case ast.Try():
                for body in (node.body, *(handler.body for handler in node.handlers), node.orelse, node.finalbody):
                    self.block(body)
            case ast.Return() if node.value is not None:
                self.returned = value(node.value)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        value(child)
                    elif isinstance(child, ast.stmt):
                        self.statement(child)

    def enter(self, item: ast.withitem) -> bool:
        """Walk through the head of a `with`; whether it opens a transaction."""
        given = self.calls.value(item.context_expr)
        if item.optional_vars is not None:
            self.bind(item.optional_vars, given, None)
        return _last_name(item.context_expr) in ("atomic", "schema_editor")

    def bind(self, target: ast.expr, given: Value, source: ast.expr | None) -> None:
        """Let a name stand for a value."""
        if isinstance(target, ast.Name):
            self.names[target.id] = given
        elif isinstance(target, ast.Tuple | ast.List):
            for place, each in enumerate(target.elts):
                self.bind(each, given.items[place] if place < len(given.items) else replace(given, items=()), None)
        elif isinstance(target, ast.Attribute):
            # row.n = row.n + 1; what a function makes of the old value is most often the same the second time
            own = isinstance(source, ast.BinOp) and ast.dump(target.value) in {
                ast.dump(each.value)
                for each in ast.walk(source)
                if isinstance(each, ast.Attribute) and each.attr == target.attr
            }
            self.note_field(target, own=own)

    def note_field(self, target: ast.expr, *, own: bool) -> None:
        """Note that a field of a row is assigned."""
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            self.changed.setdefault(target.value.id, []).append(target.attr)
            if own:
                self.own_values.add(target.value.id)


def _last_name(node: ast.expr) -> str:
    """`atomic` of `transaction.atomic(...)`."""
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
