"""Which reasons each tool's rules speak of: a finding names a danger when it is about what makes it dangerous.

When in doubt another tool is given the credit. Rules of style, and those that our runner makes moot (a missing
lock_timeout), are not counted as false alarms; a rule that stands in neither list is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Topics = Mapping[str, frozenset[str]]


def _topics(**of: str) -> Topics:
    return {rule.replace("_", "-"): frozenset(reasons.split()) for rule, reasons in of.items()}


SQUAWK = _topics(
    adding_field_with_default="add-not-null volatile-default rewrite generated one-value",
    adding_foreign_key_constraint="add-foreign-key",
    adding_not_nullable_field="add-not-null set-not-null",
    adding_required_field="add-not-null",
    ban_concurrent_index_creation_in_transaction="concurrently-in-transaction",
    ban_drop_column="drop-column loss",
    ban_drop_default="add-not-null one-value",
    ban_drop_table="drop-table loss",
    ban_truncate="loss",
    ban_truncate_cascade="loss",
    changing_column_type="rewrite narrow cast collation view",
    constraint_missing_not_valid="add-check add-foreign-key add-unique exclusion",
    disallowed_unique_constraint="add-unique",
    renaming_column="rename-column",
    renaming_table="rename-table",
    require_concurrent_index_creation="index-build add-unique",
    require_concurrent_reindex="reindex index-build",
    transaction_nesting="concurrently-in-transaction",
    ban_update_without_where="whole-table",
    ban_delete_without_where="whole-table loss",
    ban_vacuum_full="vacuum-full rewrite",
)
LINTER = {
    rule.upper().replace("-", "_"): topics
    for rule, topics in _topics(
        rename_table="rename-table",
        not_null="add-not-null set-not-null",
        drop_column="drop-column loss",
        drop_table="drop-table loss",
        rename_column="rename-column",
        alter_column="rewrite narrow cast collation view",
        add_unique="add-unique",
        create_index="index-build add-unique",
        create_index_exclusive="index-build mixed",
        drop_index="",
        reindex="reindex index-build",
        runpython_reversible="irreversible loss",
        runpython_args_naming_convention="",
        runpython_model_import="real-models",
        runpython_model_variable_name="",
        runsql_reversible="irreversible loss",
    ).items()
}
SAFE = _topics(
    SM001="add-not-null",
    SM002="drop-column loss",
    SM003="drop-table loss",
    SM004="rewrite narrow cast collation view index-build add-check add-foreign-key",
    SM005="add-foreign-key index-build",
    SM006="rename-column",
    SM007="irreversible loss",
    SM008="unbatched whole-table not-repeatable",
    SM009="add-unique",
    SM010="index-build",
    SM011="add-unique",
    SM013="narrow rewrite",
    SM014="rename-table",
    SM015="add-unique",
    SM016="irreversible loss",
    SM017="add-check",
    SM018="concurrently-in-transaction",
    SM020="set-not-null",
    SM021="add-unique",
    SM022="one-value volatile-default",
    SM026="unbatched whole-table",
    SM030="",
    SM033="add-not-null",
    SM037="real-models",
    SM038="mixed",
    SM040="one-value add-unique",
    SM041="generated rewrite",
    SM047="add-check add-foreign-key",
    SM048="loss",
    SM056="exclusion",
)
DEFERRED = _topics(
    E001="drop-column loss",
    E002="drop-table loss",
    E003="add-not-null one-value",
    E004="set-not-null",
    E005="rename-column rename-table",
    E006="rewrite narrow cast collation view",
    E101="index-build",
    E102="index-build add-unique add-foreign-key rewrite",
    E103="add-check add-unique exclusion add-foreign-key index-build validated-at-once",
    E104="generated volatile-default rewrite",
    E105="concurrently-in-transaction",
    E106="not-repeatable",
)
OWN = _topics(
    add_check="add-check",
    validate_in_same_transaction="validated-at-once",
    check_violated="add-check",
    add_not_null_column="add-not-null",
    add_column_without_value="add-not-null",
    drop_default="add-not-null",
    one_value_for_all="one-value",
    volatile_default="volatile-default",
    generated_column="generated",
    add_foreign_key="add-foreign-key",
    orphans="add-foreign-key",
    add_index="index-build",
    concurrently_in_transaction="concurrently-in-transaction",
    set_not_null="set-not-null",
    null_insert="set-not-null",
    null_values="set-not-null",
    remove_column="drop-column",
    lose_column="drop-column",
    remove_table="drop-table",
    lose_table="drop-table",
    forget_required_column="new-code",
    sql_still_named="new-code",
    rename_column="rename-column",
    rename_table="rename-table",
    rewrite_column_type="rewrite",
    rebuild_index="rewrite collation",
    impossible_cast="cast",
    narrow_column_type="narrow",
    change_column_kind="cast",
    view_needs_type="view",
    add_unique="add-unique exclusion",
    duplicate_values="add-unique",
    irreversible="irreversible",
    unbatched_data_migration="unbatched whole-table",
    values_do_not_come_back="loss",
    real_model_in_migration="real-models",
    lock_held_during_long_work="mixed whole-table",
    pending_trigger_events="mixed",
    not_rendered="concurrently-in-transaction",
    still_named="drop-column drop-table rename-column rename-table new-code",
    not_repeatable="not-repeatable",
    sql_add_index="index-build reindex",
    sql_concurrently_in_transaction="concurrently-in-transaction",
    sql_add_not_null_column="add-not-null volatile-default",
    sql_rewrite_table="rewrite vacuum-full set-not-null volatile-default",
    sql_change_column_type="rewrite narrow cast view",
    sql_remove="drop-column drop-table",
    sql_rename="rename-column rename-table",
    sql_add_constraint="add-check add-foreign-key add-unique set-not-null",
    sql_unbatched_change="whole-table",
    sql_lose_rows="loss",
    sql_lock="lock-table reindex",
    sql_session="session-settings",
)
OURS: Topics = {**OWN, **{f"squawk-{rule}": topics for rule, topics in SQUAWK.items()}}
PEERS: dict[str, Topics] = {
    "squawk": SQUAWK,
    "django-migration-linter": LINTER,
    "django-safe-migrations": SAFE,
    "django-deferred-migrations": DEFERRED,
}
STYLE = frozenset(
    {
        "require-timeout-settings",
        "require-lock-timeout",
        "require-statement-timeout",
        "require-table-schema",
        "identifier-too-long",
        "ban-char-field",
        "RUNPYTHON_ARGS_NAMING_CONVENTION",
        "RUNPYTHON_MODEL_VARIABLE_NAME",
        "SM019",  # reserved words
        "SM028",  # prefer bigint
        "SM031",  # prefer text
        "SM032",  # prefer timestamptz
        "SM034",  # prefer identity
        "SM035",  # lock_timeout in RunSQL
        "SM036",  # IF EXISTS
    }
)


def is_style(rule: str) -> bool:
    """Whether a rule is about taste, or about what our runner does anyway."""
    return rule in STYLE or rule.startswith("prefer-")


def names(rules: Iterable[str], topics: Topics, reasons: Iterable[str]) -> bool:
    """Whether one of the rules that fired speaks of one of the right reasons."""
    wanted = set(reasons)
    return any(topics.get(rule, frozenset()) & wanted for rule in rules)
