"""Builders: records with full defaults; a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.release.backup import Backup, DatabaseIdentity, Verification
from tasks.release.environment import Environment, parse
from tasks.release.environment import Risk as Limits
from tasks.release.plan import Applied, AppliedMigration, BothWays, Listed, Migration, Plan, Reached, Sql
from tasks.release.rehearsal import HeldLock, MigrationRehearsal, Rehearsal, Statement
from tasks.release.release import Answer, Deployed, Release, Reloaded, Smoked
from tasks.release.risk import Finding, Risk, level_of, levels_of

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
COMMIT = "3f2a1b" + "0" * 34
BEFORE = "9e8d7c" + "0" * 34


def content(**changes: Any) -> dict[str, Any]:
    """What an environment file holds, with nothing but what is required; tables are merged one level deep."""
    least: dict[str, Any] = {
        "name": "staging",
        "kind": "staging",
        "app": {"directory": "app", "branch": "develop", "reload": []},
        "database": {"host": "127.0.0.1", "name": "shop", "user": "runbook"},
        "storage": {"bucket": "runbook"},
        "smoke": {"base_url": "http://127.0.0.1:1", "endpoints": [{"path": "/"}]},
    }
    return {
        **least,
        **{
            key: {**least.get(key, {}), **value} if isinstance(value, dict) else value for key, value in changes.items()
        },
    }


def environment(**changes: Any) -> Environment:
    """An environment of which nothing needs to exist."""
    return parse(content(**changes), Path("/somewhere/staging.toml"))


def identity(**changes: Any) -> DatabaseIdentity:
    fields = {"system_identifier": "7412", "oid": 16384, "name": "shop", "server_version": 170010}
    return DatabaseIdentity.model_validate(fields | changes)


def reached(**changes: Any) -> Reached:
    fields = {
        "vendor": "postgresql",
        "system_identifier": "7412",
        "database": "shop",
        "database_oid": 16384,
        "server_version_num": 170010,
        "user": "chatbot",
        "host": "127.0.0.1",
        "port": "5432",
        "server_addr": "127.0.0.1",
        "server_port": 5432,
        "server_started": "1763780400.123456",
        "lock_timeout_ms": 2000,
        "statement_timeout_ms": 900_000,
        "application_name": "runbook: migrate",
    }
    return Reached.model_validate(fields | changes)


def migration(label: str = "documents.0002_document_category", **changes: Any) -> Migration:
    app, _, name = label.partition(".")
    fields: dict[str, Any] = {
        "app": app,
        "name": name,
        "atomic": True,
        "initial": False,
        "reversible": True,
        "irreversible_because": None,
        "from_dependency": False,
        "file": f"apps/{app}/migrations/{name}.py",
        "replaces": (),
        "dependencies": (),
        "backwards": False,
        "sql": BothWays(
            forward=Sql(statements=("ALTER TABLE documents ADD category text;",), partial=False, because=()),
            backward=Sql(statements=("ALTER TABLE documents DROP category;",), partial=False, because=()),
        ),
        "operations": ({"describe": "Add field category to document", "table": "documents_document"},),
    }
    return Migration.model_validate(fields | changes)


def plan(*labels: str, **changes: Any) -> Plan:
    """A plan whose pending migrations have these labels."""
    fields: dict[str, Any] = {
        "django": "5.2",
        "python": "3.11",
        "settings": "config.settings.staging",
        "database": reached(),
        "pending": tuple(migration(label) for label in labels),
        "listed": tuple(
            Listed(app=label.partition(".")[0], name=label.partition(".")[2], applied=False) for label in labels
        ),
        "planned_at": AT,
    }
    return Plan.model_validate(fields | changes)


def finding(rule: str = "add-index", **changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "rule": rule,
        "migration": "documents.0002_document_category",
        "severity": "medium",
        "message": "writes to documents_document wait until the index is built",
        "evidence": ("documents_document has 50,000 rows (counted)",),
        "mitigation": ("build it concurrently:\nAddIndexConcurrently(...)",),
        "file": "apps/documents/migrations/0002_document_category.py",
        "line": 12,
        "harm": "blocks",
        "subject": "documents_document",
    }
    return Finding.model_validate(fields | changes)


def risk(*findings: Finding, labels: tuple[str, ...] = (), **changes: Any) -> Risk:
    fields: dict[str, Any] = {
        "limits": Limits(),
        "level": level_of(findings),
        "migrations": levels_of(labels or tuple(dict.fromkeys(one.migration for one in findings)), findings),
        "findings": findings,
        "facts": ("documents_document has 50,000 rows (counted)",),
        "assessed_at": AT,
    }
    return Risk.model_validate(fields | changes)


def rehearsed(label: str = "documents.0002_document_category", **changes: Any) -> MigrationRehearsal:
    """A migration that went well on the backup."""
    fields: dict[str, Any] = {
        "migration": label,
        "seconds": 0.05,
        "blocking_s": 0.01,
        "statements": (
            Statement(
                sql='ALTER TABLE "documents_document" ADD COLUMN "category" text NULL',
                count=1,
                began_s=0.01,
                seconds=0.004,
                rows=0,
                locks={"public.documents_document": "AccessExclusiveLock"},
                rewrites=(),
            ),
        ),
        "locks": (
            HeldLock(
                relation="public.documents_document",
                mode="AccessExclusiveLock",
                held_s=0.01,
                blocks="reads and writes",
            ),
        ),
        "rewrites": (),
        "rows": {},
        "backward_compatible": True,
        "reversible": True,
        "reverse_s": 0.04,
        "schema_restored": True,
        "again_identical": True,
    }
    return MigrationRehearsal.model_validate(fields | changes)


def rehearsal(*migrations: MigrationRehearsal, **changes: Any) -> Rehearsal:
    fields: dict[str, Any] = {
        "migrations": migrations or (rehearsed(),),
        "previous_commit": BEFORE,
        "restored_bytes": 8_000_000,
        "seconds": 3.5,
        "findings": (),
        "rehearsed_at": AT,
    }
    return Rehearsal.model_validate(fields | changes)


def backup(**changes: Any) -> Backup:
    fields: dict[str, Any] = {
        "id": "20261122-030000-v1.1-3f2a1b",
        "manifest_key": "staging/backups/20261122-030000-v1.1-3f2a1b/manifest.json",
        "manifest_sha256": "0" * 64,
        "source": identity(),
        "started_at": datetime.now(UTC),
        "finished_at": datetime.now(UTC),
        "bytes": 1_000_000,
        "source_bytes": 8_000_000,
        "tables": 9,
        "rows": 12_345,
        "objects": (),
        "findings": (),
    }
    return Backup.model_validate(fields | changes)


def verification(**changes: Any) -> Verification:
    fields: dict[str, Any] = {
        "level": "restored",
        "proves": "all rows are there",
        "objects": 1,
        "bytes": 1_000_000,
        "tables": 9,
        "rows": 12_345,
        "read_s": 0.4,
        "restore_s": 3.0,
        "verified_at": AT,
    }
    return Verification.model_validate(fields | changes)


def deployed(**changes: Any) -> Deployed:
    return Deployed.model_validate({"previous": BEFORE, "commit": COMMIT, "installed": False} | changes)


def applied(*labels: str, **changes: Any) -> Applied:
    fields: dict[str, Any] = {
        "migrations": tuple(AppliedMigration(label=label, seconds=0.25) for label in labels),
        "already": (),
        "seconds": 0.25 * len(labels),
        "lock_timeout_s": 2.0,
        "statement_timeout_s": 900.0,
        "analyzed": ("documents_document",),
        "before": (),
        "after": (),
    }
    return Applied.model_validate(fields | changes)


def reloaded(**changes: Any) -> Reloaded:
    return Reloaded.model_validate({"commit": COMMIT, "told": True} | changes)


def smoked(**changes: Any) -> Smoked:
    answer = Answer(name="GET /api/health", ok=True, status=200, seconds=0.02, problem="", head="")
    return Smoked.model_validate({"answers": (answer,), "round_trip_s": 0.01} | changes)


def release(**changes: Any) -> Release:
    """A release that was opened and of which nothing was done yet."""
    fields: dict[str, Any] = {
        "id": "20261122-030000-v1.1-3f2a1b",
        "environment": "staging",
        "ref": "v1.1",
        "commit": COMMIT,
        "previous_commit": BEFORE,
        "checked_out": BEFORE,
        "created_at": AT,
        "requested_by": "v1.1-to-staging",
    }
    return Release.model_validate(fields | changes)
