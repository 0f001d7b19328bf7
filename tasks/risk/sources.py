"""The text files of a checkout that can name a column or a model: read once, indexed by word, parsed when asked for."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import tokenize
import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

TEMPLATES = (".html", ".htm", ".txt", ".xml", ".jinja", ".jinja2", ".j2")
SUFFIXES = (".py", ".sql", *TEMPLATES)
FOREIGN = {"node_modules", "venv", "env", "virtualenv", "site-packages", "dist-packages", "__pycache__"}
TOO_LARGE_BYTES = 2_000_000  # nobody wrote that by hand
GIT_TIMEOUT_S = 30
WORD = re.compile(r"[^\W\d]\w*")
MIGRATION = re.compile(r"^class Migration\(.*\bMigration\)", re.MULTILINE)
LABEL = re.compile(r"""^\s+label\s*(?::[^=]+)?=\s*["'](\w+)["']""", re.MULTILINE)
USER_MODEL = re.compile(r"""^\s*AUTH_USER_MODEL\s*(?::[^=]+)?=\s*["'](\w+\.\w+)["']""", re.MULTILINE)

Stamp = dict[str, tuple[int, int]]


class Module:
    """A Python file: its tree, and what its imports call the names that it uses.

    Raises:
        SyntaxError: It is no Python of this version; ValueError, RecursionError or MemoryError where it is absurd.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file, self.lines = file, re.split("\r\n|\r|\n", text)
        with warnings.catch_warnings():  # of the application's invalid escapes and the like
            warnings.simplefilter("ignore")
            self.tree = ast.parse(text)
        path = PurePosixPath(file)
        self.package = ".".join(path.parent.parts)
        self.dotted = self.package if path.stem == "__init__" else ".".join((*path.parent.parts, path.stem))
        self.classes: dict[str, ast.ClassDef] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}  # local name to module and the name in it; None: itself
        self.import_lines: dict[str, int] = {}
        for node in _statements(self.tree):
            if isinstance(node, ast.ClassDef):
                self.classes.setdefault(node.name, node)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self.imports[name] = (alias.name if alias.asname else name, None)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (self._origin(node), alias.name)
                    self.import_lines[alias.asname or alias.name] = getattr(alias, "lineno", node.lineno)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".") if self.package else []
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])

    def dotted_name(self, node: ast.expr) -> str | None:
        """The full dotted name of `a.b.c`, its first part as imported; None for any other expression."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        origin, name = self.imports.get(node.id, (node.id, None))
        return ".".join(part for part in (origin, name, *reversed(parts)) if part)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """All statements at any depth; expressions, which are most of a tree, hold none."""
    queue: list[ast.stmt] = list(tree.body)
    while queue:
        node = queue.pop(0)
        yield node
        inner: list[ast.stmt] = []
        for part in ("body", "orelse", "finalbody"):
            inner += getattr(node, part, [])
        for holder in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            inner += holder.body
        queue[:0] = inner


class Sources:
    """The files of one checkout.

    Args:
        root: The checkout's directory; files that git does not track are no part of it, where git is there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []  # what was passed over, and why
        self.texts: dict[str, str] = {}
        self.words: dict[str, set[str]] = defaultdict(set)  # in lower case, to the files that have it
        self.apps: dict[str, set[str]] = defaultdict(set)  # label to directories
        self._modules: dict[str, Module | None] = {}
        self._lines: dict[str, list[str]] = {}
        self.listed = [file for file in _listed(root) if _is_own(file)]
        self.stamp = _stamp(root, self.listed)
        for file in self.listed:
            self._note_app(PurePosixPath(file))
            if PurePosixPath(file).suffix in SUFFIXES and "migrations" not in PurePosixPath(file).parts[:-1]:
                self._read(file)

    def _note_app(self, path: PurePosixPath) -> None:
        if path.name in ("models.py", "apps.py"):
            self.apps[path.parent.name or self.root.name].add(str(path.parent))
        elif path.parent.name in ("models", "migrations") and path.name == "__init__.py":
            self.apps[path.parent.parent.name or self.root.name].add(str(path.parent.parent))

    def _read(self, file: str) -> None:
        try:
            if (self.root / file).stat().st_size > TOO_LARGE_BYTES:
                self.notes.append(f"{file} was not searched: it is larger than {TOO_LARGE_BYTES:,} bytes")
                return
            raw = (self.root / file).read_bytes()
            encoding = tokenize.detect_encoding(io.BytesIO(raw).readline)[0] if file.endswith(".py") else "utf-8-sig"
            text = raw.decode(encoding)
        except (OSError, UnicodeError, SyntaxError, LookupError) as error:
            self.notes.append(f"{file} was not searched: it cannot be read ({type(error).__name__})")
            return
        if file.endswith(".py") and MIGRATION.search(text):
            return
        self.texts[file] = text
        if PurePosixPath(file).name == "apps.py":
            for label in LABEL.findall(text):
                self.apps[label].add(str(PurePosixPath(file).parent))
        for word in set(WORD.findall(text.lower())):
            self.words[word].add(file)
            if "__" in word:
                for part in word.split("__"):
                    self.words[part].add(file)

    def is_current(self) -> bool:
        """Whether the checkout's files are still those that were read."""
        return self.stamp == _stamp(self.root, self.listed)

    def with_word(self, *words: str, suffix: str | tuple[str, ...] = ".py") -> list[str]:
        """The files of a kind that have any of the words, whatever their case."""
        found: set[str] = set()
        for word in words:  # a quoted name may have several
            parts = [self.words.get(part, set()) for part in WORD.findall(word.lower())]
            found |= set.intersection(*parts) if parts else set()
        return sorted(file for file in found if file.endswith(suffix))

    def lines(self, file: str) -> list[str]:
        """The lines of a file."""
        if file not in self._lines:
            self._lines[file] = re.split("\r\n|\r|\n", self.texts[file])  # as Python counts them
        return self._lines[file]

    def module(self, file: str) -> Module | None:
        """A Python file, parsed once; None where it cannot be."""
        if file not in self._modules:
            try:
                self._modules[file] = Module(file, self.texts[file])
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                self.notes.append(f"{file} was not searched: {type(error).__name__}")
                self._modules[file] = None
        return self._modules[file]

    def defining(self, name: str) -> list[Module]:
        """The Python files with a class of a name, in any case."""
        pattern = re.compile(rf"^\s*class\s+{re.escape(name)}\b", re.MULTILINE | re.IGNORECASE)
        files = [file for file in self.with_word(name) if pattern.search(self.texts[file])]
        return [module for file in files if (module := self.module(file)) is not None]

    def modules(self, *words: str) -> list[Module]:
        """The Python files that have any of the words."""
        return [module for file in self.with_word(*words) if (module := self.module(file)) is not None]

    @cached_property
    def user_models(self) -> frozenset[str]:
        """What settings call AUTH_USER_MODEL, in lower case."""
        files = self.with_word("AUTH_USER_MODEL")
        return frozenset(name.lower() for file in files for name in USER_MODEL.findall(self.texts[file]))


def _stamp(root: Path, files: list[str]) -> Stamp:
    """Change time and size of every file, of the directories that hold them and of git's index."""
    places = {*files, *(os.path.dirname(file) for file in files), "", ".git/index"}  # noqa: PTH120 - called often
    found: Stamp = {}
    for place in places:
        try:
            seen = os.stat(os.path.join(root, place))  # noqa: PTH116, PTH118 - called often
        except OSError:
            continue
        found[place] = (seen.st_mtime_ns, seen.st_size)
    return found


def _is_own(file: str) -> bool:
    return not any(part in FOREIGN or part.startswith(".") for part in PurePosixPath(file).parts)


def _listed(root: Path) -> list[str]:
    """Relative paths of the files that git tracks; of all files where git does not answer."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(root), "ls-files", "-z"],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
        tracked = os.fsdecode(done.stdout).split("\0") if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        tracked = []
    present = sorted(file for file in tracked if file and _is_file(root / file))
    return present or _walked(root)


def _walked(root: Path) -> list[str]:
    found = []
    for directory, below, files in os.walk(root):
        place = Path(directory)
        below[:] = sorted(name for name in below if _is_own(name) and not (place / name / "pyvenv.cfg").exists())
        found += [(place / name).relative_to(root).as_posix() for name in sorted(files) if _is_file(place / name)]
    return found


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
