# mypy: ignore-errors
# Runs inside the shop's interpreter, which need not have all the tools.
# ruff: noqa: PLC0415, T201
"""What the other linters say of the shop's pending migrations; and their SQL by `sqlmigrate`, for squawk.

Writes one line of JSON: {"sql": {migration: text or null}, "linter": [...], "safe": [...], "deferred": [...]}; the
lists hold rule ids. A tool that dies of a migration has said nothing of it.
"""

import contextlib
import io
import json
import sys

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.migrations.loader import MigrationLoader  # noqa: E402

loader = MigrationLoader(connection)
pending = sorted(key for key in loader.graph.nodes if key[0] == "shop" and key not in loader.applied_migrations)


def sql(key):
    """The SQL of a migration, None where it cannot be rendered."""
    text = io.StringIO()
    try:
        call_command("sqlmigrate", *key, stdout=text)
    except Exception:  # noqa: BLE001
        return None
    return text.getvalue()


def linter():
    """django-migration-linter; what it says of the Python counts where it dies of the SQL."""
    from django_migration_linter import MigrationLinter
    from django_migration_linter.sql_analyser import analyse_sql_statements

    found = set()
    checker = MigrationLinter(None, no_cache=True, no_output=True)
    for key in pending:
        migration = loader.get_migration(*key)
        issues = list(checker.analyse_data_migration(migration))
        with contextlib.suppress(Exception):
            issues += analyse_sql_statements(checker.sql_analyser_class, checker.get_sql(*key), [])
        found |= {issue.code for kind in issues for issue in kind}
    return sorted(found)


def safe():
    """django-safe-migrations."""
    from django_safe_migrations.analyzer import MigrationAnalyzer

    checker = MigrationAnalyzer()
    return sorted(
        {
            issue.rule_id
            for key in pending
            for issue in checker.analyze_migration(loader.get_migration(*key), key[0], key[1], loader)
        }
    )


def deferred():
    """django-deferred-migrations."""
    from deferred_migrations.safety.walker import check_installed_project

    found = check_installed_project(set(loader.applied_migrations))
    # E008 wants its own operations' dependency, E009 and E010 are about its own configuration.
    return sorted({finding.rule_id for finding in found if finding.app_label == "shop"} - {"E008", "E009", "E010"})


def said(tool):
    """A tool's findings, or the error that it died of."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return tool()
    except Exception as error:  # noqa: BLE001
        print(f"{tool.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
        return []


answer = {"sql": {f"{app}.{name}": sql((app, name)) for app, name in pending}, "linter": said(linter)}
answer["safe"] = said(safe)
answer["deferred"] = said(deferred) if "deferred" in sys.argv[1:] else []
print(json.dumps(answer))
