"""Where the code of a checkout names a column, a table or a model: file, line, and how sure that is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.risk import sql_names, templates
from tasks.risk.models_named import Models, last_name
from tasks.risk.python_names import PythonNames, UseKind, annotates
from tasks.risk.sources import TEMPLATES, Module, Sources
from tasks.risk.target import Named, Target, target

__all__ = ["Named", "Reference", "Search", "examine", "fills", "notes", "search", "told"]

LONGEST_TEXT = 160  # characters
KEPT = 4  # checkouts: the serving and the new one, and room for those of a second release
SHOWN = 5  # references of one finding that are told in full
TESTS = re.compile(r"(?:^|/)(?:tests?|testing)/|(?:^|/)(?:test_[^/]*|[^/]*_tests?|tests|conftest|factories)\.py$")
SECRET = re.compile(
    r"""(?i)(?<=://)[^\s/@"']+(?=@)"""  # user and password of a URL
    r"""|(?<=["'])(?=[^"'\s]*\d)(?=[^"'\s]*[a-z])[\w+/=.\-]{24,}(?=["'])"""
    r"""|\b(?:AKIA|ASIA|ghp_|gho_|ghs_|github_pat_|glpat-|xox[abprs]-|sk-|sk_live_)[\w\-]{8,}"""
)
NAMED_SECRET = re.compile(
    r"""(?i)((?:pass(?:word|wd|phrase)?|secret|token|credential|api_?key|access_?key|private_?key)\w*["'\]]*\s*(?::[^=]*)?"""
    r"""[:=]\s*[rbf]*["'])[^"']+"""
)


@dataclass(frozen=True)
class Reference:
    """A line that names it."""

    file: str  # relative to the checkout
    line: int
    text: str  # of the line, at most 160 characters, with what looks like a secret masked
    kind: UseKind
    certain: bool  # else only the word was found, where its owner is not known, or in a test

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text} ({self.kind})"


@dataclass(frozen=True)
class Search:
    """What was found, and whether the model was."""

    references: tuple[Reference, ...]  # the model's definition first, then what is certain
    complete: bool  # the model and all its bases were read, so that a field not found is not there


class _Checkout:
    """What is known of a checkout, until one of its files changes."""

    def __init__(self, root: Path) -> None:
        self.files = Sources(root)
        self.models = Models(self.files)
        self.found: dict[Named, Search] = {}


_kept: dict[Path, _Checkout] = {}


def search(checkout: Path, named: Named) -> tuple[Reference, ...]:
    """Every line of a checkout that names something, and those that may.

    Tests and migrations are different: a test's use is never certain, and migrations are not searched. What cannot be
    read or parsed is passed over: see `notes`.
    """
    return examine(checkout, named).references


def examine(checkout: Path, named: Named) -> Search:
    """The same as `search`, and whether what was not found is really not there."""
    known = _checkout(checkout)
    if named not in known.found:
        looked = _Found(known.files, target(known.models, named), named)
        looked.definitions()
        looked.python()
        looked.other()
        ordered = sorted(
            looked.lines.values(), key=lambda it: (not it.certain, it.kind != "model definition", it.file, it.line)
        )
        known.found[named] = Search(tuple(ordered), looked.target.complete)
    return known.found[named]


def fills(checkout: Path, named: Named) -> bool:
    """Whether a checkout's model says what a field is when nobody gives it a value."""
    definitions = target(_checkout(checkout).models, named).definitions
    return bool(definitions) and all(definition.filled for definition in definitions)


def notes(checkout: Path) -> tuple[str, ...]:
    """Files that could not be searched so far, and why."""
    return tuple(dict.fromkeys(_checkout(checkout).files.notes))


def _checkout(root: Path) -> _Checkout:
    root = root.resolve()
    known = _kept.pop(root, None)
    _kept[root] = known if known is not None and known.files.is_current() else _Checkout(root)
    while len(_kept) > KEPT:
        del _kept[next(iter(_kept))]
    return _kept[root]


def told(references: Iterable[Reference]) -> tuple[str, ...]:
    """References as sentences of evidence: the first certain ones, and the number of the others."""
    listed = list(references)
    certain = [str(reference) for reference in listed if reference.certain]
    more = [f"and {len(certain) - SHOWN} more lines"] if len(certain) > SHOWN else []
    possible = [reference for reference in listed if not reference.certain]
    if possible:
        places = ", ".join(f"{reference.file}:{reference.line}" for reference in possible[:SHOWN])
        lines = "line" if len(possible) == 1 else "lines"
        more.append(f"{len(possible)} other {lines} may mean it or something else of that name: {places}")
    return (*certain[:SHOWN], *more)


class _Found:
    """The references of one search, one a line."""

    def __init__(self, files: Sources, target: Target, named: Named) -> None:
        self.files, self.target = files, target
        self.column = named.column
        # Of a field without a column nothing is known in SQL.
        self.table = named.table if named.column or target.what != "field" else None
        self.lines: dict[tuple[str, int], Reference] = {}

    def note(self, file: str, line: int, kind: UseKind, certain: bool) -> None:
        reference = Reference(file, line, _line(self.files, file, line), kind, certain and not TESTS.search(file))
        known = self.lines.get((file, line))
        if known is None or (reference.certain and not known.certain):
            self.lines[file, line] = reference

    def definitions(self) -> None:
        """The model's own source."""
        if self.target.what == "model":
            for made in self.target.classes:
                self.note(made.module.file, made.node.lineno, "model definition", True)
        elif self.target.what == "field":
            for definition in self.target.definitions:
                self.note(definition.file, definition.line, "model definition", True)

    def python(self) -> None:
        """All other Python."""
        target = self.target
        words = {*target.names, target.model if target.what == "model" else None, self.table and self.column}
        words.add(self.table if target.what != "field" else None)
        named = self.files.with_word(*(word for word in words if word))
        near = self._near()
        for file in named:
            if file not in near:
                self._glance(file)
        modules = [module for file in named if file in near and (module := self.files.module(file)) is not None]
        made_up = target.what == "field" and any(annotates(module, target) for module in modules)
        replaced = target.what == "model" and not target.classes and _is_replaced(target, modules)
        unsure = {"query", "attribute"} if made_up else {"import", "name"} if replaced else set()
        for module in modules:
            try:
                uses = list(PythonNames(module, target, self.table, self.column).uses())
            except RecursionError:
                self.files.notes.append(f"{module.file} was not searched: its expressions are nested too deep")
                continue
            for use in uses:
                self.note(module.file, use.line, use.kind, use.certain and use.kind not in unsure)

    def _near(self) -> set[str]:
        """The files that name the model, the way to it or its table: in no other can a use be certain."""
        target = self.target
        family = {made.node.name for made in target.family}.union(*(made.manager_classes for made in target.family))
        words = {target.model, self.table, *family, *target.leading, "get_user_model"}
        return set(self.files.with_word(*(word for word in words if word)))

    def _glance(self, file: str) -> None:
        """Attributes and queries of a file that knows nothing of the model, by their text."""
        if not self.target.names:
            return
        names = "|".join(map(re.escape, sorted(self.target.names)))
        pattern = re.compile(
            rf"(?<!\bself)(?<!\bcls)\.(?:{names})\b(?!\s*\()"
            rf"|\.(?:filter|exclude|order_by|values|values_list|only|defer)\([^()\n]*(?<![^\W_])(?:{names})(?![^\W_])"
        )
        for number, line in enumerate(self.files.lines(file), 1):
            if "." in line and pattern.search(line) and not line.lstrip().startswith("#"):
                self.note(file, number, "attribute", False)

    def other(self) -> None:
        """SQL files and templates."""
        texts = self.files.texts
        if self.table:
            for file in self.files.with_word(self.column or self.table, suffix=".sql"):
                for offset, certain in sql_names.uses(texts[file], self.table, self.column):
                    self.note(file, texts[file].count("\n", 0, offset) + 1, "SQL", certain)
        for file in self.files.with_word(*self.target.names, suffix=TEMPLATES):
            for offset in templates.uses(texts[file], self.target.names):
                self.note(file, texts[file].count("\n", 0, offset) + 1, "template", False)


def _is_replaced(target: Target, modules: Iterable[Module]) -> bool:
    """Whether the model's app still has something of its name, such as an alias of the new one."""
    return any(
        statement.name == target.model
        if isinstance(statement, ast.ClassDef | ast.FunctionDef)
        else isinstance(statement, ast.Assign) and last_name(statement.targets[0]) == target.model
        for module in modules
        if target.in_app(module.dotted)
        for statement in module.tree.body
    )


def _line(files: Sources, file: str, line: int) -> str:
    """A line of a file as it may be shown."""
    lines = files.lines(file)
    text = lines[line - 1].strip() if line <= len(lines) else ""
    text = SECRET.sub("***", NAMED_SECRET.sub(r"\1***", text))
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
