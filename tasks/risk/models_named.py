"""The models that a checkout defines, read from its source alone: fields, columns, tables, relations."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tasks.risk.sources import Module, Sources

RELATIONS = {"ForeignKey", "OneToOneField", "ManyToManyField", "ParentalKey", "ParentalManyToManyField"}
# Ends of the names of field classes that are no relation: Django's, and what projects derive from them.
_USUAL = ("CharField", "TextField", "IntegerField", "DecimalField", "FloatField", "BooleanField", "DateField")
_FURTHER = ("DateTimeField", "TimeField", "DurationField", "JSONField", "UUIDField", "EmailField", "URLField")
DJANGOS = (
    *_USUAL,
    *_FURTHER,
    "SlugField",
    "FileField",
    "ImageField",
    "BinaryField",
    "ArrayField",
    "AutoField",
    "AddressField",
)
NO_COLUMN = {"GenericForeignKey", "GenericRelation", "Manager", "Property"}
# Base classes that a model never has, by the end of their names.
_NEVER = ("Form", "Serializer", "Admin", "Factory", "Enum", "Choices", "TypedDict", "Protocol", "Schema", "TestCase")
NO_MODEL = (*_NEVER, "Resource", "FilterSet", "View", "ViewSet", "Inline", "NamedTuple", "Exception", "Config")
PLAIN = {"models.Model", "django.db.models.Model", "django.db.models.base.Model", "object"}

_FILLING = frozenset({"default", "db_default", "auto_now", "auto_now_add"})


@dataclass(frozen=True)
class FieldDefinition:
    """A field in the body of a class."""

    name: str
    columns: frozenset[str] | None  # that it may have: none of a many-to-many field; None: any
    file: str
    line: int
    relates_to: str | None = None  # the model's name, without its app
    related_name: str | None = None
    filled: bool = False  # a row that is made without a value for it gets one, of the code or the database

    @property
    def names(self) -> frozenset[str]:
        """What an instance and a query call it: a foreign key has a second name."""
        return frozenset({self.name, f"{self.name}_id"} if self.relates_to and self.columns else {self.name})

    def has_column(self, column: str) -> bool:
        """Whether this may be its column."""
        return self.columns is None or column in self.columns


@dataclass
class ModelClass:
    """A class that is, or may be a base of, a model."""

    module: Module
    node: ast.ClassDef
    app: str  # the directory
    fields: dict[str, FieldDefinition] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)  # methods, properties, nested classes, constants
    managers: set[str] = field(default_factory=set)  # attributes
    manager_classes: set[str] = field(default_factory=set)
    meta: dict[str, ast.expr] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """File and name."""
        return self.module.file, self.node.name


def field_class(node: ast.expr | None) -> str | None:
    """The class whose call makes a field; None where that is not what an expression is."""
    if not isinstance(node, ast.Call):
        return None
    name = last_name(node.func)
    return name if name and name[0].isupper() and not any(name.endswith(end) for end in NO_COLUMN) else None


def last_name(node: ast.expr | None) -> str | None:
    """`c` of `a.b.c`, of `a.b.c[d]` and of `a.b.c()`."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def text_of(node: ast.expr | None) -> str | None:
    """The value of a string constant."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr, int]]:
    for statement in body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value, statement.lineno
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            yield statement.target.id, statement.value, statement.lineno


def _field(name: str, value: ast.Call, made_by: str, file: str, line: int) -> FieldDefinition:
    keywords = {keyword.arg: keyword.value for keyword in value.keywords}
    target = None
    columns: frozenset[str] | None = frozenset({name})
    if made_by in RELATIONS or made_by.endswith(("ForeignKey", "OneToOneField", "ManyToManyField")):
        to = keywords.get("to") or (value.args[0] if value.args else None)
        target = (text_of(to) or last_name(to) or "").rpartition(".")[2] or "?"
        columns = frozenset() if "ManyToMany" in made_by else frozenset({f"{name}_id"})
    elif not made_by.endswith(DJANGOS):
        columns = frozenset({name, f"{name}_id"})  # a class of the project's, perhaps a foreign key
    if "db_column" in keywords:
        column = text_of(keywords["db_column"])
        columns = None if column is None else frozenset({column})
    related = text_of(keywords.get("related_query_name")) or text_of(keywords.get("related_name"))
    filled = not keywords.keys().isdisjoint(_FILLING)
    return FieldDefinition(name, columns, file, line, target, related, filled)


def understood(module: Module, node: ast.ClassDef, app: str) -> ModelClass:
    """What the body of a class says."""
    found = ModelClass(module, node, app)
    for name, value, line in _assignments(node.body):
        made_by = field_class(value)
        if made_by is not None and isinstance(value, ast.Call):
            found.fields[name] = _field(name, value, made_by, module.file, line)
        elif isinstance(value, ast.Call) and (
            name == "objects" or "manager" in ast.dump(value.func).lower() or "queryset" in ast.dump(value.func).lower()
        ):
            found.managers.add(name)
            found.manager_classes |= {part.id for part in ast.walk(value) if isinstance(part, ast.Name)}
        else:
            found.others.add(name)
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.others.add(statement.name)
            if isinstance(statement, ast.ClassDef) and statement.name == "Meta":
                found.meta = {name: value for name, value, _ in _assignments(statement.body)}
    return found


class Models:
    """The models of a checkout, looked up as they are asked for."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._relations: dict[str, set[str]] | None = None

    def find(self, label: str, model: str) -> list[ModelClass]:
        """The classes that define a model; several where a name is defined conditionally, usually one."""
        found = []
        for module in self.sources.defining(model):
            for node in module.classes.values():
                if node.name.lower() == model.lower() and self._may_be_model(module, node):
                    made = understood(module, node, self._app(module))
                    named = text_of(made.meta.get("app_label"))
                    if named == label or (named is None and made.app in self.sources.apps.get(label, ())):
                        found.append(made)
        return found

    def find_by_table(self, table: str) -> list[ModelClass]:
        """The classes whose table has that name in the database."""
        found = []
        for label in list(self.sources.apps):
            if table.lower().startswith(f"{label.lower()}_"):
                found += [
                    made
                    for made in self.find(label, table[len(label) + 1 :])
                    if (text_of(made.meta.get("db_table")) or table) == table
                ]
        naming = set(self.sources.with_word("db_table")).intersection(self.sources.with_word(table))
        for module in filter(None, map(self.sources.module, sorted(naming))):
            for node in module.classes.values():
                made = understood(module, node, self._app(module))
                if text_of(made.meta.get("db_table")) == table and self._may_be_model(module, node):
                    found.append(made)
        return list({made.key: made for made in found}.values())

    def ancestry(self, made: ModelClass) -> tuple[list[ModelClass], bool]:
        """A class and its bases within the checkout; and whether there is any other than Django's Model outside."""
        found, queue, outside = {made.key: made}, [made], False
        while queue:
            below = queue.pop()
            for base in below.node.bases:
                dotted = below.module.dotted_name(base)
                if dotted in PLAIN:
                    continue
                bases = self._base(below, dotted or "") if dotted else []
                outside = outside or not bases
                for other in bases:
                    if other.key not in found:
                        found[other.key] = other
                        queue.append(other)
        return list(found.values()), outside

    def leading_to(self, model: str) -> frozenset[str]:
        """What a query of another model calls the way to this one, unless something else is called so too."""
        if self._relations is None:
            self._relations = self._read_relations()
        return frozenset(name for name, targets in self._relations.items() if targets == {model.lower()})

    def _read_relations(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for module in self.sources.modules(*RELATIONS):
            for node in module.classes.values():
                for relation in understood(module, node, "").fields.values():
                    if relation.relates_to:
                        target = node.name if relation.relates_to == "self" else relation.relates_to
                        found[relation.name].add(target.lower())
                        found[relation.related_name or node.name.lower()].add(node.name.lower())
        return found

    def _base(self, below: ModelClass, dotted: str) -> list[ModelClass]:
        origin, _, name = dotted.rpartition(".")
        if not origin:
            node = below.module.classes.get(name)
            return [understood(below.module, node, below.app)] if node and node is not below.node else []
        return [
            understood(module, module.classes[name], self._app(module))
            for module in self.sources.defining(name)
            if name in module.classes and f".{origin}." in f".{module.dotted}."
        ]

    def _app(self, module: Module) -> str:
        """The directory of the app that a file belongs to."""
        known = {directory for directories in self.sources.apps.values() for directory in directories}
        for parent in PurePosixPath(module.file).parents:
            if str(parent) in known:
                return str(parent)
        return ""

    @staticmethod
    def _may_be_model(module: Module, node: ast.ClassDef) -> bool:
        names = [last_name(base) or "" for base in node.bases]
        if not names or any(name.endswith(NO_MODEL) for name in names):
            return False
        in_models = PurePosixPath(module.file).stem == "models" or "models" in PurePosixPath(module.file).parts
        return in_models or any("Model" in name for name in names)
