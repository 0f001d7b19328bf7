"""The release report: what a person wants to know about a release, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.markdown.rehearsal import rehearsal_section
from tasks.markdown.risk import checklist_table, facts_list, findings_list
from tasks.markdown.text import block, cell, code, count, duration, moment, size, table
from tasks.release.backup import Backup, Verification
from tasks.release.checklist import checklist
from tasks.release.order import Order, Preview
from tasks.release.plan import Applied, Attempt, Migration, Plan
from tasks.release.release import Release, Smoked, StageName
from tasks.release.rules import blocking

STAGES: dict[StageName, tuple[str, str]] = {
    "plan": ("§3", "Plan"),
    "risk": ("§4.1", "Risk"),
    "gate": ("§4", "Prerequisites"),
    "announced": ("§4.2", "Notice before"),
    "approval": ("§4.1", "Approval"),
    "backup": ("§3.1", "Backup"),
    "verification": ("§3.1", "Backup proved"),
    "rehearsal": ("§4.1", "Rehearsal"),
    "maintenance": ("§4.4", "Maintenance on"),
    "code": ("§3.2", "Code"),
    "applied": ("§3.3", "Migrate"),
    "reloaded": ("§3.2", "Reload"),
    "reopened": ("§4.6", "Maintenance off"),
    "smoke": ("§3.4", "Smoke test"),
    "told": ("§4.2", "Notice after"),
}
OF_PRODUCTION: frozenset[StageName] = frozenset({"gate", "announced", "approval", "maintenance", "reopened", "told"})
SQL_LIMIT = 60  # statements shown per migration; the record has all of them


def release_report(release: Release) -> str:
    """The report of a release, whatever became of it."""
    parts = [
        _headline(release),
        _timings(release),
        _changes(release.plan, release.commits),
        _prerequisites(release),
        _risk(release),
        _people(release),
        _backup(release.backup, release.verification),
        rehearsal_section(release.rehearsal) if release.rehearsal else "",
        _migrations(release.plan, release.applied),
        _smoke(release.smoke),
        _next_step(release),
        _timeline(release),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def preview_report(order: Order, previews: Sequence[Preview], plan: Plan | None) -> str:
    """The report of a dry run: what each stage would do."""
    rows = [
        (*STAGES[preview.stage], cell(preview.would), cell("; ".join(preview.findings)) or "none")
        for preview in previews
    ]
    parts = [
        f"# Dry run: {cell(order.ref)} to {order.environment}",
        f"Only read, nothing changed. Commit `{order.commit[:12]}`.",
        table(("", "Stage", "Would", "Findings"), rows),
        _migrations(plan, None),
        f"**Next step:** {code(f'runbook deploy {order.environment} --ref {order.ref}')}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(release: Release) -> str:
    said = {
        "finished": f"is on {release.environment}",
        "running": f"is on its way to {release.environment}",
        "waiting": f"waits for an approval before it goes to {release.environment}",
        "watching": f"is on {release.environment} and is watched",
        "convicted": f"is on {release.environment} and does harm there",
        "failed": f"did not get through to {release.environment}",
    }[release.status]
    ended = release.timeline[-1].at if release.timeline else release.created_at
    facts = [
        f"release `{release.id}`",
        f"commit `{release.commit[:12]}`, before it `{release.previous_commit[:12]}`",
        f"asked for by {cell(release.requested_by)}",
        f"{moment(release.created_at)}, {duration((ended - release.created_at).total_seconds())} in all",
    ]
    return f"# {cell(release.ref)} {said}\n\n" + " · ".join(facts)


def _timings(release: Release) -> str:
    rows = []
    # What blocks is known by the last stage that looked.
    blocked_by = ("rehearsal" if release.rehearsal else "risk") if blocking(release) else ""
    for stage, (section, title) in STAGES.items():
        run = release.stages.get(stage)
        if run is None and stage in OF_PRODUCTION and release.gate is None:
            continue
        if run is None:
            rows.append((section, title, "not begun", "", ""))
            continue
        if release.result(stage) is not None:
            state = "**blocked**" if stage == blocked_by else "done"
        else:
            state = (
                f"**failed**: {cell(' '.join(run.error.splitlines()[:3]))}"
                if run.error
                else "under way, or its run died"
            )
        took = duration(run.seconds) if run.seconds is not None else ""
        rows.append((section, title, state, took, str(run.attempts)))
    return "## Stages\n\n" + table(("", "Stage", "State", "Time", "Attempts"), rows)


def _changes(plan: Plan | None, commits: Sequence[str]) -> str:
    lines = [f"- {code(commit.partition(' ')[0])} {cell(commit.partition(' ')[2])}" for commit in commits]
    if plan:
        lines += [f"- ⚠ {cell(finding)}" for finding in plan.findings]
    return "## What changed\n\n" + "\n".join(lines) if lines else ""


def _risk(release: Release) -> str:
    if release.plan is None or release.risk is None:
        return ""
    made = checklist(release.plan, release.risk, release.tried)
    parts = ["## Risk", checklist_table(made), findings_list(release.risk), facts_list(release.risk)]
    return "\n\n".join(part for part in parts if part)


def _prerequisites(release: Release) -> str:
    if release.gate is None:
        return ""
    rows = [(cell(check.name), check.tick, cell(check.evidence)) for check in release.gate.checks]
    return "## Prerequisites\n\n" + table(("", "Holds", "Found"), rows)


def _people(release: Release) -> str:
    """Who approved, whether the application was shut, and who was told."""
    lines = []
    if (approval := release.approval) and approval.asked:
        lines.append(
            f"- **approved** by {cell(approval.by)}, {moment(approval.answered_at)}, up to a {approval.level} risk;"
            f" {cell(approval.standby)} on standby" + (f": {cell(approval.comment)}" if approval.comment else "")
        )
    elif approval:
        lines.append(f"- nobody had to be asked for a {approval.level} risk")
    if release.maintenance and release.maintenance.needed:
        off = release.reopened
        until = f" until {moment(off.at)} (by {off.by})" if off else ", **still**"
        lines.append(f"- in maintenance mode since {moment(release.maintenance.since)}{until}")
    of_stages = (delivery for told in (release.announced, release.told) if told for delivery in told.deliveries)
    for delivery in dict.fromkeys((*release.notices, *of_stages)):
        came = "told" if delivery.ok else f"⚠ **could not be told** ({cell(delivery.error)})"
        lines.append(f"- {cell(delivery.to)}: {came}, {moment(delivery.at)}: {cell(delivery.subject)}")
    return "## People\n\n" + "\n".join(lines) if lines else ""


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
                code(migration.label),
                duration(took) if took is not None else "",
                "yes" if migration.atomic else "no",
                _reversible(migration),
                "; ".join(cell(operation["describe"]) for operation in migration.operations) or "nothing",
            )
        )
    shown = table(("Migration", "Time", "Atomic", "Reversible", "Does"), rows)
    limits = ""
    if applied:
        limits = (
            f"\n\n`migrate` took {duration(applied.seconds)}, the application's start included."
            f" Every statement ran under lock_timeout {applied.lock_timeout_s:g} s and statement_timeout"
            f" {applied.statement_timeout_s:g} s. Analyzed: {cell(', '.join(applied.analyzed)) or 'nothing'}."
        )
        if applied.already:
            limits += (
                f" Found applied already, by an earlier attempt or by somebody: {cell(', '.join(applied.already))}."
            )
        limits += _attempts(applied.attempts)
    return f"## Migrations\n\n{shown}{limits}\n\n" + "\n\n".join(_sql(migration) for migration in plan.pending)


def _attempts(attempts: Sequence[Attempt]) -> str:
    """What each run of `migrate` waited for, and how long it made others wait."""
    if not attempts:
        return ""
    rows = [
        (
            moment(one.began),
            duration(one.seconds),
            cell(one.ended_by),
            duration(one.waited_s),
            f"{duration(one.blocked_others_s)} ({count(one.blocked_sessions, 'session')})",
            "; ".join(
                cell(f"{holder.kind} {holder.application_name} (pid {holder.pid}) on {holder.relation or 'a row'}")
                for holder in one.holders
            ),
        )
        for one in attempts
    ]
    heads = ("Attempt", "Took", "Ended by", "Waited for locks", "Others waited at most", "Locks held by")
    return "\n\n" + table(heads, rows)


def _reversible(migration: Migration) -> str:
    if migration.reversible is None:
        return "unknown"
    return "yes" if migration.reversible else f"no: {cell(migration.irreversible_because or '')}"


def _sql(migration: Migration) -> str:
    forward, backward = migration.sql.forward, migration.sql.backward
    blocks = []
    for title, rendered in (("forward", forward), ("backward", backward)):
        lines = list(rendered.statements or ())
        shown = lines[:SQL_LIMIT] + ([f"-- and {len(lines) - SQL_LIMIT} more"] if len(lines) > SQL_LIMIT else [])
        shown += [f"-- {reason}" for reason in rendered.because]
        blocks.append(f"-- {title}\n" + ("\n".join(shown) or "-- nothing"))
    sql = "\n\n".join(blocks)
    return f"### SQL of {cell(migration.label)}\n\n{block(sql, 'sql')}"


def _backup(backup: Backup | None, verification: Verification | None) -> str:
    if backup is None:
        return ""
    ratio = f", {backup.source_bytes / backup.bytes:.1f} times smaller than on disk" if backup.bytes else ""
    lines = [
        f"- **{size(backup.bytes)}** in {count(len(backup.objects), 'object')}{ratio}",
        f"- {count(backup.tables, 'table')} with {backup.rows:,} rows, as of {moment(backup.started_at)}",
        f"- manifest `{backup.manifest_key}`",
    ]
    if verification:
        lines.append(
            f"- **proved** ({verification.level}): {verification.proves}"
            + (f"; read back in {duration(verification.read_s)}" if verification.level != "stored" else "")
            + (f", restored in {duration(verification.restore_s)}" if verification.level == "restored" else "")
        )
    lines += [f"- ⚠ {cell(finding)}" for finding in backup.findings]
    return "## Backup\n\n" + "\n".join(lines)


def _smoke(smoked: Smoked | None) -> str:
    if smoked is None:
        return ""
    rows = [
        (
            code(answer.name),
            str(answer.status),
            f"{answer.seconds * 1000:.0f} ms",
            cell(answer.problem) or "as it should",
        )
        for answer in smoked.answers
    ]
    shown = table(("Request", "Status", "Time", "Answer"), rows)
    return f"## Smoke test\n\n{shown}\n\nA row written, read back and rolled back: {smoked.round_trip_s * 1000:.0f} ms."


def _next_step(release: Release) -> str:
    deploy = f"runbook deploy {release.environment} --ref {release.ref}"
    again = code(f"{deploy} --release-id {release.id}")
    hint = next((run.hint for run in release.stages.values() if run.hint), "mend what the failed stage says")
    blocked = blocking(release)
    anew = "--release-id new" in hint  # this one cannot go on
    step = {
        "finished": "watch error log and database metrics for 24 hours (§3.5), and test what changed by hand.",
        "waiting": f"{code(f'runbook approve {release.environment}')} or the run's page in the Prefect UI; until then"
        " nothing is touched.",
        "watching": f"nothing; {code(f'runbook report {release.environment}')} tells how far the watch is.",
        "convicted": f"{cell(release.verdict.sentence) if release.verdict else 'look at the verdict'}",
        "running": f"if its run died, {again} goes on where it ended.",
        "failed": f"what is blocked above has to be mended, in the migration or in the data; then {code(deploy)} judges"
        " and rehearses it anew."
        if blocked
        else cell(hint)
        + ("." if anew else f". {code(deploy)} goes on where this one ended: finished stages are not repeated."),
    }[release.status]
    return f"**Next step:** {step}"


def _timeline(release: Release) -> str:
    rows = [(f"{entry.at:%H:%M:%S}", cell(entry.what)) for entry in release.timeline]
    return "## Timeline\n\n" + table(("UTC", "What happened"), rows)
