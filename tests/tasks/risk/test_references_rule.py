"""The code check on real migrations: what the serving and the new code still name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tasks.app.probing import plan as ask
from tasks.app.probing import understood
from tasks.release.plan import Plan
from tasks.release.risk import Finding
from tasks.risk.history import History
from tasks.risk.judge import judge
from tasks.risk.references import Reference
from tasks.risk.rule import Case
from tasks.risk.rules.references import StillNamed, serving_uses
from tests.fix_app import Site, git
from tests.tasks.app.django_projects import Project, django_python, project
from tests.tasks.risk.no_database import NoDatabase

__all__ = ["django_python", "project"]
MODEL = "class Order(models.Model):\n    name = models.CharField(max_length=50)\n"
TOTAL = "    total = models.IntegerField(null=True)\n"


def cases(plan: Plan, source: Path, serving: Path | None) -> Iterable[Case]:
    history = History()
    for migration in plan.pending:
        history.begin(migration)
        for operation in migration.operations:
            yield Case(migration, operation, history, NoDatabase(), source, serving)
            history.note(migration, operation)


def findings(plan: Plan, source: Path) -> list[Finding]:
    return [found for case in cases(plan, source, None) for found in StillNamed().judge(case)]


def uses(plan: Plan, serving: Path | None, source: Path) -> list[tuple[Reference, ...] | None]:
    return [serving_uses(case) for case in cases(plan, source, serving)]


@pytest.fixture
def planned(project: Callable[[str], Project], tmp_path: Path) -> Callable[..., tuple[Plan, Path, Path]]:
    """Return a function from old and new models and operations to the plan, the new and the serving checkout."""

    def make(operations: str, new: str, old: str = MODEL + TOTAL, **files: str) -> tuple[Plan, Path, Path]:
        made = project("5.2")
        made.app("shop", old)
        made.manage("makemigrations", "shop")
        made.manage("migrate")
        git(tmp_path, "clone", "--quiet", str(_committed(made.home)), "serving")
        made.app("shop", new)
        made.apps.pop()
        made.settings()
        made.migration("shop", "0002_change", operations, after="0001_initial")
        for name, text in files.items():
            made.write(f"shop/{name}.py", text)
        _committed(made.home)
        return understood(made.probe()), made.home, tmp_path / "serving"

    return make


def _committed(home: Path) -> Path:
    git(home, "init", "--quiet")
    git(home, "add", "--all")
    git(home, "commit", "--quiet", "--message", "a release")
    return home


VIEW = "from shop.models import Order\n\nOrder.objects.filter(total=1)\n"
REMOVE = "migrations.RemoveField('order', 'total'),"


def test_removed_column(planned: Callable[..., Any]) -> None:
    plan, source, serving = planned(REMOVE, MODEL, views=VIEW)
    [found] = findings(plan, source)
    assert (found.rule, found.severity, found.file, found.line) == ("still-named", "high", "shop/views.py", 3)
    assert found.subject == "shop_order.total"
    [references] = uses(plan, serving, source)
    assert references is not None
    assert [(it.kind, it.file, it.line) for it in references] == [("model definition", "shop/models.py", 4)]


def test_clean_new_code_and_serving_code_that_gave_the_field_up(planned: Callable[..., Any]) -> None:
    plan, source, _ = planned(REMOVE, MODEL)
    assert findings(plan, source) == []
    assert uses(plan, source, source) == [()]
    assert uses(plan, None, source) == [None]


def test_column_that_is_made_again_is_not_gone(planned: Callable[..., Any]) -> None:
    again = REMOVE + "\nmigrations.AddField('order', 'total', models.TextField(null=True)),"
    plan, source, _ = planned(again, MODEL + "    total = models.TextField(null=True)\n", views=VIEW)
    assert findings(plan, source) == []


def test_state_only_removal_takes_nothing_away(planned: Callable[..., Any]) -> None:
    state = f"migrations.SeparateDatabaseAndState(state_operations=[{REMOVE}]),"
    plan, source, serving = planned(state, MODEL, views=VIEW)
    assert findings(plan, source) == []
    assert uses(plan, serving, source) == [(), ()]


def test_column_that_a_pending_migration_renamed_is_known_by_its_old_name(planned: Callable[..., Any]) -> None:
    operations = "migrations.RenameField('order', 'total', 'amount'), migrations.RemoveField('order', 'amount'),"
    plan, source, serving = planned(operations, MODEL, views=VIEW.replace("total", "amount"))
    assert [found.subject for found in findings(plan, source)] == ["shop_order.amount"]
    for references in uses(plan, serving, source):
        assert references is not None
        assert [it.text for it in references] == ["total = models.IntegerField(null=True)"]


def judged(plan: Plan, source: Path, serving: Path | None) -> list[Finding]:
    return list(judge(plan, NoDatabase(), source, serving).findings)


def test_what_sql_drops_and_no_running_code_names_is_lost_but_breaks_none(planned: Callable[..., Any]) -> None:
    drop = f"migrations.RunSQL('ALTER TABLE shop_order DROP COLUMN total', '', state_operations=[{REMOVE}]),"
    plan, source, serving = planned(drop, MODEL)
    [used] = [found for found in judged(plan, source, serving) if found.rule == "sql-remove"]
    assert (used.harm, used.severity) == ("old code", "high")
    assert "shop/models.py:4" in "".join(used.evidence)
    [unused] = [found for found in judged(plan, source, source) if found.rule == "sql-remove"]
    assert unused.harm == "loss"
    assert [found.harm for found in judged(plan, source, None) if found.rule == "sql-remove"] == ["old code"]


def test_what_sql_renames_and_no_running_code_names_breaks_none(planned: Callable[..., Any]) -> None:
    rename = "migrations.RunSQL('ALTER TABLE shop_order RENAME total TO gone', '', state_operations=[{}]),"
    plan, source, serving = planned(rename.format(REMOVE), MODEL)
    assert "sql-rename" in {found.rule for found in judged(plan, source, serving)}
    assert "sql-rename" not in {found.rule for found in judged(plan, source, source)}


CHECK = (
    "migrations.AddConstraint('order', models.CheckConstraint(condition=models.Q(total__isnull=False), name='full')),"
)


@pytest.mark.parametrize(("given", "breaks"), [("", True), (", default=7", False), (", db_default=7", False)])
def test_a_check_breaks_running_code_that_has_nothing_better_than_null(
    planned: Callable[..., Any], given: str, breaks: bool
) -> None:
    model = MODEL + TOTAL.replace("null=True", f"null=True{given}")
    plan, source, serving = planned(CHECK, model, model)
    assert ("null-insert" in {found.rule for found in judged(plan, source, serving)}) is breaks


def test_renamed_model(planned: Callable[..., Any]) -> None:
    operations = "migrations.RenameModel('Order', 'Purchase'),"
    new = (MODEL + TOTAL).replace("Order", "Purchase")
    plan, source, serving = planned(operations, new, views=VIEW, raw='SQL = "SELECT id FROM shop_order"\n')
    [found] = findings(plan, source)
    assert "shop/raw.py:1" in "".join(found.evidence)
    assert "shop/views.py:1" in "".join(found.evidence)
    [references] = uses(plan, serving, source)
    assert references
    assert references[0].kind == "model definition"


@pytest.mark.parametrize(
    ("tag", "line"), [("v1.2-drop-column", "language = models."), ("v1.2-rename-column", "owner_email = models.")]
)
def test_the_releases_of_the_example(staging_site: Site, tmp_path: Path, tag: str, line: str) -> None:
    git(tmp_path, "clone", "--quiet", str(staging_site.repository), "serving")
    git(tmp_path / "serving", "checkout", "--quiet", "--detach", "v1.1")
    staging_site.check_out("v1.1")
    staging_site.manage("migrate", "--no-input")
    staging_site.check_out(tag)
    plan = ask(staging_site.environment, staging_site.checkout)
    assert findings(plan, staging_site.app) == []
    [references] = uses(plan, tmp_path / "serving", staging_site.app)
    assert references is not None
    certain = [it for it in references if it.certain]
    assert certain[0].file == "apps/documents/models.py"
    assert certain[0].text.startswith(line)
    assert "apps/documents/views.py" in {it.file for it in certain}
