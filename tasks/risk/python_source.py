"""Modules of the checkout as syntax trees: their functions, constants, and what their imports lead to."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Imported:
    """What a name stands for that was imported."""

    module: str  # dotted; "" where it cannot be told
    name: str  # in that module; "" for the module itself


@dataclass
class Module:
    """One file of Python."""

    path: Path
    tree: ast.Module
    functions: dict[str, Function] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    imports: dict[str, Imported] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.Assign):
                self.constants |= {each.id: node.value for each in node.targets if isinstance(each, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                self.constants[node.target.id] = node.value
        for inner in ast.walk(self.tree):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                self.imports |= imported(inner, self.path)
        self.functions |= {name: value for name, value in self.constants.items() if isinstance(value, ast.Lambda)}
        # A name that is made of itself has no single text.
        self.constants = {name: value for name, value in self.constants.items() if not _mentions(value, name)}

    def function_at(self, name: str, line: int) -> Function | None:
        """A function by its last name and the line on which it (or its first decorator) begins."""
        found: list[Function] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Lambda) and name == "<lambda>" and node.lineno == line:
                found.append(node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if first <= line <= node.lineno:
                    found.append(node)
        if len(found) > 1 and name == "<lambda>":  # code and reverse_code on one line
            found = [node for node in found if node in self._given_as_code()]
        return found[0] if len({ast.dump(node) for node in found}) == 1 else None

    def _given_as_code(self) -> list[ast.expr]:
        """What RunPython is given to go forward."""
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        calls = [node for node in calls if getattr(node.func, "attr", getattr(node.func, "id", "")) == "RunPython"]
        named = [each.value for node in calls for each in node.keywords if each.arg == "code"]
        return [*(node.args[0] for node in calls if node.args), *named]

    def function_of(self, name: str, dotted: str) -> tuple[Module, Function] | None:
        """A function by its name here, or by its dotted name in another module of the checkout; with its module."""
        if name in self.functions:
            return self, self.functions[name]
        wanted, _, last = dotted.rpartition(".")
        module = self.module_of(wanted)
        return (module, module.functions[last]) if module and last in module.functions else None

    def module_of(self, wanted: str) -> Module | None:
        """A module by its dotted name, where a directory above this file holds it."""
        if not wanted or wanted.partition(".")[0] == "django":
            return None
        for directory in self.path.parents:
            place = directory.joinpath(*wanted.split("."))
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file():
                    return read_module(file)
        return None


def _mentions(value: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(value))


def imported(node: ast.Import | ast.ImportFrom, path: Path) -> dict[str, Imported]:
    """The names that an import statement binds."""
    if isinstance(node, ast.Import):
        return {
            each.asname or each.name.partition(".")[0]: Imported(
                each.name if each.asname else each.name.partition(".")[0], ""
            )
            for each in node.names
        }
    module = node.module or ""
    if node.level:
        above = path.parents[: node.level]
        package = above[-1] if len(above) == node.level else None
        if package is None:
            return {}
        # Dotted from the outermost directory that is a package.
        parts: list[str] = []
        while (package / "__init__.py").exists():
            parts.insert(0, package.name)
            package = package.parent
        module = ".".join([*parts, *([module] if module else [])])
    return {each.asname or each.name: Imported(module, each.name) for each in node.names}


def read_module(path: Path) -> Module | None:
    """A file's module; None when it cannot be read or parsed."""
    try:
        stat = path.stat()
        return _parsed(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=512)
def _parsed(path: Path, _changed: int, _size: int) -> Module:
    return Module(path, ast.parse(path.read_bytes()))
