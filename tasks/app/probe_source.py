# mypy: ignore-errors
# Part of probe.py: runs inside the application's interpreter, Python >= 3.6.
"""Read the source of a migration: what it depends on, though it cannot be loaded, and where its operations stand."""

import ast
from pathlib import Path


def parsed(path):
    """The syntax tree of a file, or None."""
    try:
        return ast.parse(Path(path).read_bytes()) if path else None
    except (OSError, SyntaxError, ValueError):
        return None


def assigned(tree, name):
    """What the class Migration assigns to a name, as a node; None if it is not found."""
    for node in tree.body if tree is not None else ():
        if not isinstance(node, ast.ClassDef) or node.name != "Migration":
            continue
        for statement in node.body:
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return getattr(statement, "value", None)
    return None


def lines_of(tree, operations):
    """The line of each operation by its position ("2.database.0"), where the list stands there as it is used."""
    found = {}
    note_lines(assigned(tree, "operations"), operations, "", found)
    return found


def note_lines(node, operations, position, found):
    """Add the lines of the elements of a list, and of the lists that they hold."""
    if not isinstance(node, (ast.List, ast.Tuple)) or len(node.elts) != len(operations):
        return
    if any(isinstance(element, ast.Starred) for element in node.elts):
        return
    for number, operation in enumerate(operations):
        element, here = node.elts[number], f"{position}{number}"
        found[here] = element.lineno
        if not isinstance(element, ast.Call):
            continue
        held = {keyword.arg: keyword.value for keyword in element.keywords}
        if type(operation).__name__ == "SeparateDatabaseAndState":
            for index, value in enumerate(element.args[:2]):
                held[("database_operations", "state_operations")[index]] = value
        for inner in ("database", "state"):
            inside = getattr(operation, f"{inner}_operations", None) or []
            note_lines(held.get(f"{inner}_operations"), inside, f"{here}.{inner}.", found)


def written_dependencies(tree):
    """The dependencies that a source lists by name; None if it does not."""
    node = assigned(tree, "dependencies")
    if not isinstance(node, (ast.List, ast.Tuple)):
        return None
    found = []
    for element in node.elts:
        try:
            pair = ast.literal_eval(element)
        except ValueError:  # swappable_dependency(...)
            continue
        if is_key(pair):
            found.append(pair)
    return found


def is_key(thing):
    """Whether something names a migration."""
    return isinstance(thing, tuple) and len(thing) == 2 and all(isinstance(part, str) for part in thing)
