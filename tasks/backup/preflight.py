"""Before anything is dumped: may this role read everything, and what will a restore not bring back."""

from __future__ import annotations

import psycopg

from tasks.backup.snapshot import Connection
from tasks.database.connection import explained
from tasks.release.errors import BackupError

NAMED = 10  # as many names as one message lists

_USER_SCHEMA = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"
_NOT_OF_AN_EXTENSION = """not exists (select from pg_depend d
  where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')"""

_UNREADABLE = f"""
select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'S') and c.relpersistence <> 't' and {_USER_SCHEMA}
  and ({_NOT_OF_AN_EXTENSION} or exists (select from pg_extension e where c.oid = any(e.extconfig)))
  and not (has_schema_privilege(n.oid, 'usage') and case when c.relkind = 'S'
    then has_sequence_privilege(c.oid, 'select') else has_table_privilege(c.oid, 'select') end)
union all
select 'large object ' || m.oid from pg_largeobject_metadata m
where not (select rolsuper from pg_roles where rolname = current_user) and not pg_has_role(m.lomowner, 'usage')
  and not exists (select from aclexplode(m.lomacl) g where g.privilege_type = 'SELECT'
    and (g.grantee = 0 or pg_has_role(g.grantee, 'usage')))
order by 1
"""  # noqa: S608 -- constants of this file

_FILTERED = f"""
select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relrowsecurity and {_USER_SCHEMA} and row_security_active(c.oid) order by 1
"""  # noqa: S608

# One row per thing that a dump does not hold, or not all of.
_FINDINGS = f"""
select 'foreign table: its rows are elsewhere and are not in the backup: ' || format('%I.%I', n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'f' and {_USER_SCHEMA}
union all select 'table of an extension: its rows are not in the backup: ' || format('%I.%I', n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p')
  and not {_NOT_OF_AN_EXTENSION}
  and not exists (select from pg_extension e where c.oid = any(e.extconfig)) and n.nspname <> 'information_schema'
union all select 'materialized view: made anew by the restore, from the restored rows: '
  || format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'm' and {_USER_SCHEMA}
union all select 'tablespace: a restore puts its objects into the default one: ' || quote_ident(s.spcname)
  from pg_tablespace s where s.spcname not in ('pg_default', 'pg_global')
  and exists (select from pg_class c where c.reltablespace = s.oid)
union all select 'foreign server: passwords of its user mappings may be missing from the backup: '
  || quote_ident(srvname) from pg_foreign_server
union all select 'publication: logical replication has to be set up anew: ' || quote_ident(pubname) from pg_publication
union all select 'subscription: not in the backup of a role that is not superuser, and never active after a restore: '
  || quote_ident(subname) from pg_stat_subscription where relid is null
  and subid in (select oid from pg_subscription_oids)
union all select 'replication slot: not in any backup: ' || quote_ident(slot_name)
  from pg_replication_slots where database = current_database()
union all select 'event trigger: only a superuser can restore it: ' || quote_ident(evtname) from pg_event_trigger t
  where not exists (select from pg_depend d where d.classid = 'pg_event_trigger'::regclass
    and d.objid = t.oid and d.deptype = 'e')
union all select 'invalid index: the restore builds it anew: ' || indexrelid::regclass::text
  from pg_index where not indisvalid
order by 1
"""  # noqa: S608


_OWNERS = """
select distinct pg_get_userbyid(owner) from (
  select relowner from pg_class where oid >= 16384 and relpersistence <> 't'
  union all select proowner from pg_proc where oid >= 16384
  union all select nspowner from pg_namespace where nspname !~ '^pg_(temp|toast_temp)_' and (oid >= 16384
    or nspname = 'public' and nspowner <> coalesce((select oid from pg_roles where rolname = 'pg_database_owner'), 0))
  union all select typowner from pg_type where oid >= 16384
  union all select oprowner from pg_operator where oid >= 16384
  union all select lomowner from pg_largeobject_metadata union all select defaclrole from pg_default_acl
  union all select srvowner from pg_foreign_server union all select pubowner from pg_publication
) as owned(owner) order by 1
"""

_ROLES = """
select distinct pg_get_userbyid(refobjid) from pg_shdepend
where dbid = (select oid from pg_database where datname = current_database()) and refclassid = 'pg_authid'::regclass
  and objid not in (select oid from pg_extension) order by 1
"""


def check_readable(connection: Connection) -> None:
    """Refuse when the role would see less than everything: a smaller backup is no backup.

    Raises:
        BackupError: A table, a sequence or a large object may not be read, or row-level security filters.
        DatabaseError: The server refuses to tell.
    """
    user = _column(connection, "select current_user::text", "cannot ask for the role")[0]
    if names := _column(connection, _UNREADABLE, "cannot check privileges"):
        raise BackupError(
            f"{user} may not read {_listed(names)}; nothing was dumped", hint=f"GRANT pg_read_all_data TO {user}"
        )
    if names := _column(connection, _FILTERED, "cannot check row-level security"):
        raise BackupError(
            f"row-level security hides rows of {_listed(names)} from {user}; nothing was dumped",
            hint=f"ALTER ROLE {user} BYPASSRLS, or back up as the owner of these tables",
        )


def findings_of(connection: Connection) -> tuple[str, ...]:
    """What a restore will not bring back, one sentence each.

    Raises:
        DatabaseError: The server refuses to tell.
    """
    subscriptions = "select oid from pg_subscription"
    may_ask = _column(
        connection, "select has_column_privilege('pg_subscription', 'oid', 'select')::text", "cannot check privileges"
    )
    if may_ask != ["true"]:
        subscriptions = "select subid from pg_stat_subscription"
    statement = _FINDINGS.replace("select oid from pg_subscription_oids", subscriptions)
    fixed = ("roles and their passwords are of the cluster and in no backup of a database",)
    return fixed + tuple(_column(connection, statement, "cannot look for what a dump leaves out"))


def roles_of(connection: Connection) -> tuple[str, ...]:
    """Roles that a restore needs: they own something in this database, or were granted something.

    Raises:
        DatabaseError: The server refuses to tell.
    """
    owners = _column(connection, _OWNERS, "cannot list owners")
    others = _column(connection, _ROLES, "cannot list roles")
    return tuple(sorted({*owners, *others}))


def _column(connection: Connection, statement: str, what: str) -> list[str]:
    try:
        return [row[0] for row in connection.execute(statement)]
    except psycopg.Error as error:
        raise explained(error, what) from None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
