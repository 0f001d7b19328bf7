"""Which table a model's name stands for, as far as the migration and the checkout say."""

from __future__ import annotations

import ast
from pathlib import Path

from tasks.risk.python_source import read_module
from tasks.risk.rule import Case

_DJANGO_TABLES = {
    "contenttypes.contenttype": "django_content_type",
    "sites.site": "django_site",
    "sessions.session": "django_session",
    "admin.logentry": "django_admin_log",
}


def table_of(case: Case, label: str) -> str:
    """The table of a model given as `app.Model`; "" for no label.

    Where neither an operation of the migration nor `Meta.db_table` in the app's models says otherwise, Django's own
    rule is taken.
    """
    app, _, model = label.rpartition(".")
    if not app or not model:
        return ""
    for operation in (*case.migration.operations, *case.history.within):
        if (operation["model"] or "").lower() == model.lower() and operation["table"] and app == case.migration.app:
            return str(operation["table"])
    told = _DJANGO_TABLES.get(label.lower()) or _named_in_models(case, app, model)
    return told or f"{app}_{model}".lower()


def _named_in_models(case: Case, app: str, model: str) -> str | None:
    beside = (
        [(case.source / case.migration.file).parents[1]] if case.migration.file and app == case.migration.app else []
    )
    for directory in (*beside, case.source / app):
        for file in (directory / "models.py", *sorted(directory.glob("models/*.py"))):
            if name := _db_table(file, model):
                return name
    return None


def _db_table(file: Path, model: str) -> str | None:
    module = read_module(file)
    classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef)] if module else []
    for node in classes:
        metas = [inner for inner in node.body if isinstance(inner, ast.ClassDef) and inner.name == "Meta"]
        for meta in metas if node.name.lower() == model.lower() else ():
            for line in meta.body:
                names = line.targets if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) else []
                if any(isinstance(each, ast.Name) and each.id == "db_table" for each in names):
                    return str(ast.literal_eval(line.value))  # type: ignore[attr-defined]
    return None
