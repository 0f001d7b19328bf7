import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

APP = "conversations"
BACK_TO = None  # before the first migration


def migrate(target: str | None) -> None:
    MigrationExecutor(connection).migrate([(APP, target)])


def tables() -> set[str]:
    return {table for table in connection.introspection.table_names() if table.startswith(f"{APP}_")}


@pytest.mark.django_db(transaction=True)
def test_every_migration_goes_back_and_forward_again():
    before = tables()
    leaves = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        migrate(BACK_TO)
        assert tables() == (before if BACK_TO else set())
    finally:
        MigrationExecutor(connection).migrate(leaves)
    assert tables() == before


@pytest.mark.django_db
def test_models_and_migrations_agree():
    call_command("makemigrations", "--check", "--dry-run", APP)
