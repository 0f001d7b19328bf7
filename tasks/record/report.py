"""The release report: what a person wants to know about a release, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from tasks.release.backup import Backup, Verification
from tasks.release.order import Order, Preview
from tasks.release.plan import Applied, Migration, Plan
from tasks.release.release import Release, Smoked, StageName

STAGES: dict[StageName, tuple[str, str]] = {
    "plan": ("§3", "Plan"),
    "backup": ("§3.1", "Backup"),
    "verification": ("§3.1", "Backup proved"),
    "code": ("§3.2", "Code"),
    "applied": ("§3.3", "Migrate"),
    "reloaded": ("§3.2", "Reload"),
    "smoke": ("§3.4", "Smoke test"),
}
SQL_LIMIT = 60  # statements shown per migration; the record has all of them


def release_report(release: Release) -> str:
    """The report of a release, whatever became of it."""
    parts = [
        _headline(release),
        _timings(release),
        _changes(release.plan, release.commits),
        _backup(release.backup, release.verification),
        _migrations(release.plan, release.applied),
        _smoke(release.smoke),
        _next_step(release),
        _timeline(release),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def preview_report(order: Order, previews: Sequence[Preview], plan: Plan | None) -> str:
    """The report of a dry run: what each stage would do."""
    rows = [
        (*STAGES[preview.stage], _cell(preview.would), _cell("; ".join(preview.findings)) or "none")
        for preview in previews
    ]
    parts = [
        f"# Dry run: {_cell(order.ref)} to {order.environment}",
        f"Only read, nothing changed. Commit `{order.commit[:12]}`.",
        _table(("", "Stage", "Would", "Findings"), rows),
        _migrations(plan, None),
        f"**Next step:** {_code(f'runbook deploy {order.environment} --ref {order.ref}')}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(release: Release) -> str:
    said = {
        "finished": f"is on {release.environment}",
        "running": f"is on its way to {release.environment}",
        "failed": f"did not get through to {release.environment}",
    }[release.status]
    ended = release.timeline[-1].at if release.timeline else release.created_at
    facts = [
        f"release `{release.id}`",
        f"commit `{release.commit[:12]}`, before it `{release.previous_commit[:12]}`",
        f"asked for by {_cell(release.requested_by)}",
        f"{_moment(release.created_at)}, {_seconds((ended - release.created_at).total_seconds())} in all",
    ]
    return f"# {_cell(release.ref)} {said}\n\n" + " · ".join(facts)


def _timings(release: Release) -> str:
    rows = []
    for stage, (section, title) in STAGES.items():
        run = release.stages.get(stage)
        if run is None:
            rows.append((section, title, "not begun", "", ""))
            continue
        if release.result(stage) is not None:
            state = "done"
        else:
            state = (
                f"**failed**: {_cell(' '.join(run.error.splitlines()[:3]))}"
                if run.error
                else "under way, or its run died"
            )
        seconds = _seconds(run.seconds) if run.seconds is not None else ""
        rows.append((section, title, state, seconds, str(run.attempts)))
    return "## Stages\n\n" + _table(("", "Stage", "State", "Time", "Attempts"), rows)


def _changes(plan: Plan | None, commits: Sequence[str]) -> str:
    lines = [f"- {_code(commit.partition(' ')[0])} {_cell(commit.partition(' ')[2])}" for commit in commits]
    if plan:
        lines += [f"- ⚠ {_cell(finding)}" for finding in plan.findings]
    return "## What changed\n\n" + "\n".join(lines) if lines else ""


def _migrations(plan: Plan | None, applied: Applied | None) -> str:
    if plan is None:
        return ""
    if not plan.pending:
        return "## Migrations\n\nNone is pending: the database stays as it is."
    seconds = {migration.label: migration.seconds for migration in applied.migrations} if applied else {}
    rows = []
    for migration in plan.pending:
        took = seconds.get(migration.label)
        rows.append(
            (
                _code(migration.label),
                _seconds(took) if took is not None else "",
                "yes" if migration.atomic else "no",
                _reversible(migration),
                "; ".join(_cell(operation["describe"]) for operation in migration.operations) or "nothing",
            )
        )
    table = _table(("Migration", "Time", "Atomic", "Reversible", "Does"), rows)
    limits = ""
    if applied:
        limits = (
            f"\n\n`migrate` took {_seconds(applied.seconds)}, the application's start included."
            f" Every statement ran under lock_timeout {applied.lock_timeout_s:g} s and statement_timeout"
            f" {applied.statement_timeout_s:g} s. Analyzed: {_cell(', '.join(applied.analyzed)) or 'nothing'}."
        )
        if applied.already:
            limits += (
                f" Found applied already, by an earlier attempt or by somebody: {_cell(', '.join(applied.already))}."
            )
    return f"## Migrations\n\n{table}{limits}\n\n" + "\n\n".join(_sql(migration) for migration in plan.pending)


def _reversible(migration: Migration) -> str:
    if migration.reversible is None:
        return "unknown"
    return "yes" if migration.reversible else f"no: {_cell(migration.irreversible_because or '')}"


def _sql(migration: Migration) -> str:
    forward, backward = migration.sql.forward, migration.sql.backward
    blocks = []
    for title, rendered in (("forward", forward), ("backward", backward)):
        lines = list(rendered.statements or ())
        shown = lines[:SQL_LIMIT] + ([f"-- and {len(lines) - SQL_LIMIT} more"] if len(lines) > SQL_LIMIT else [])
        shown += [f"-- {reason}" for reason in rendered.because]
        blocks.append(f"-- {title}\n" + ("\n".join(shown) or "-- nothing"))
    sql = "\n\n".join(blocks)
    # A longer fence than any run of backquotes inside, so that SQL cannot end it.
    fence = "`" * (2 + max(map(len, re.findall("`+", sql)), default=1))
    return f"### SQL of {_cell(migration.label)}\n\n{fence}sql\n{sql}\n{fence}"


def _backup(backup: Backup | None, verification: Verification | None) -> str:
    if backup is None:
        return ""
    ratio = f", {backup.source_bytes / backup.bytes:.1f} times smaller than on disk" if backup.bytes else ""
    lines = [
        f"- **{_bytes(backup.bytes)}** in {_count(len(backup.objects), 'object')}{ratio}",
        f"- {_count(backup.tables, 'table')} with {backup.rows:,} rows, as of {_moment(backup.started_at)}",
        f"- manifest `{backup.manifest_key}`",
    ]
    if verification:
        lines.append(
            f"- **proved** ({verification.level}): {verification.proves}"
            + (f"; read back in {_seconds(verification.read_s)}" if verification.level != "stored" else "")
            + (f", restored in {_seconds(verification.restore_s)}" if verification.level == "restored" else "")
        )
    lines += [f"- ⚠ {_cell(finding)}" for finding in backup.findings]
    return "## Backup\n\n" + "\n".join(lines)


def _smoke(smoked: Smoked | None) -> str:
    if smoked is None:
        return ""
    rows = [
        (
            _code(answer.name),
            str(answer.status),
            f"{answer.seconds * 1000:.0f} ms",
            _cell(answer.problem) or "as it should",
        )
        for answer in smoked.answers
    ]
    table = _table(("Request", "Status", "Time", "Answer"), rows)
    return f"## Smoke test\n\n{table}\n\nA row written, read back and rolled back: {smoked.round_trip_s * 1000:.0f} ms."


def _next_step(release: Release) -> str:
    deploy = f"runbook deploy {release.environment} --ref {release.ref}"
    again = _code(f"{deploy} --release-id {release.id}")
    hint = next((run.hint for run in release.stages.values() if run.hint), "mend what the failed stage says")
    anew = "--release-id new" in hint  # this one cannot go on
    step = {
        "finished": "watch error log and database metrics for 24 hours (§3.5), and test what changed by hand.",
        "running": f"if its run died, {again} goes on where it ended.",
        "failed": _cell(hint)
        + ("." if anew else f". {_code(deploy)} goes on where this one ended: finished stages are not repeated."),
    }[release.status]
    return f"**Next step:** {step}"


def _timeline(release: Release) -> str:
    rows = [(f"{entry.at:%H:%M:%S}", _cell(entry.what)) for entry in release.timeline]
    return "## Timeline\n\n" + _table(("UTC", "What happened"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text that stays within one cell: no line ends, no bars, no tags, nothing that a terminal would obey."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    # Entities, since a bar behind a backslash ends the cell in one Markdown and not in another.
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def _code(text: str) -> str:
    """A text as code within one cell; what cannot stand there as code stands there as text."""
    cell = _cell(text)
    return f"`{text}`" if cell == text and "`" not in text else cell


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 120 else f"{minutes} min {rest} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"
