"""The schema of a database in a form that can be compared: every object with a digest of its definition."""

from __future__ import annotations

from typing import Any

import psycopg

from tasks.database.connection import explained

# Kinds that a restore under other roles does not bring back.
OWNERSHIP = ("owner", "grant")

_MINE = """
with extension_members as (select classid, objid from pg_depend where deptype = 'e'),
schemas as (select oid, nspname from pg_namespace n where nspname !~ '^pg_' and nspname <> 'information_schema'
  and not exists (select from extension_members m where m.classid = 'pg_namespace'::regclass and m.objid = n.oid)),
relations as (select c.*, format('%I.%I', nspname, relname) as label from pg_class c
  join schemas s on s.oid = c.relnamespace where c.relpersistence <> 't'
  and not exists (select from extension_members m where m.classid = 'pg_class'::regclass and m.objid = c.oid)),
functions as (select p.*, p.oid::regprocedure::text as label from pg_proc p join schemas s on s.oid = p.pronamespace
  where not exists (select from extension_members m where m.classid = 'pg_proc'::regclass and m.objid = p.oid)),
types as (select t.*, format('%I.%I', nspname, typname) as label from pg_type t join schemas s on s.oid = t.typnamespace
  where (t.typrelid = 0 or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
  and t.typtype in ('b', 'c', 'd', 'e', 'r') and not exists (select from pg_type e where e.typarray = t.oid)
  and not exists (select from extension_members m where m.classid = 'pg_type'::regclass and m.objid = t.oid))
"""

_ITEMS = """
select 'schema', quote_ident(nspname), '' from schemas
union all select case relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
    when 'm' then 'materialized view' when 'f' then 'foreign table' when 'c' then 'composite type' end, label,
  concat_ws('|', relpersistence, relispartition, relrowsecurity, relforcerowsecurity, relreplident,
    (select string_agg(o, ',' order by o) from unnest(reloptions) o),
    pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid),
    case when relkind in ('v', 'm') then pg_get_viewdef(oid) end,
    (select string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
        a.attgenerated, (select format('%I.%I', n.nspname, co.collname) from pg_collation co
          join pg_namespace n on n.oid = co.collnamespace where co.oid = a.attcollation),
        (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum)),
      ',' order by a.attname)
     from pg_attribute a where a.attrelid = relations.oid and a.attnum > 0 and not a.attisdropped),
    (select string_agg(i.inhparent::regclass::text, ',' order by i.inhseqno) from pg_inherits i
      where i.inhrelid = relations.oid))
  from relations where relkind in ('r', 'p', 'v', 'm', 'f', 'c')
union all select 'sequence', label, concat_ws('|', format_type(seqtypid, null), seqstart, seqincrement, seqmax, seqmin,
    seqcycle) from relations join pg_sequence on seqrelid = relations.oid
union all select 'index', label, concat_ws('|', pg_get_indexdef(i.indexrelid), i.indisclustered, i.indisreplident,
    case when i.indisvalid then '' else 'INVALID' end)
  from relations join pg_index i on i.indexrelid = relations.oid
union all select 'constraint', label || ' ' || quote_ident(conname), pg_get_constraintdef(k.oid)
    || case when k.convalidated then '' else ' NOT VALID' end
  from relations join pg_constraint k on k.conrelid = relations.oid where k.contype <> 'n'
    and (k.contype <> 'f' or k.conparentid = 0 or exists (select from pg_constraint above
      where above.oid = k.conparentid and above.conrelid <> k.conrelid))
union all select 'trigger', label || ' ' || quote_ident(tgname), concat_ws('|', pg_get_triggerdef(g.oid), g.tgenabled)
  from relations join pg_trigger g on g.tgrelid = relations.oid where not g.tgisinternal
union all select 'rule', label || ' ' || quote_ident(rulename), concat_ws('|', pg_get_ruledef(r.oid), r.ev_enabled)
  from relations join pg_rewrite r on r.ev_class = relations.oid where r.rulename <> '_RETURN'
union all select 'policy', label || ' ' || quote_ident(polname), concat_ws('|', polcmd, polpermissive,
    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
  from relations join pg_policy y on y.polrelid = relations.oid
union all select 'statistics', format('%I.%I', s.nspname, stxname), pg_get_statisticsobjdef(x.oid)
  from pg_statistic_ext x join schemas s on s.oid = x.stxnamespace
union all select 'function', label, case when prokind = 'a' then 'aggregate' else pg_get_functiondef(oid) end
  from functions
union all select 'type', label, concat_ws('|', typtype, case when typtype = 'd' then format_type(typbasetype, typtypmod)
      end, typnotnull, typdefault,
    (select string_agg(pg_get_constraintdef(k.oid), ',' order by k.conname) from pg_constraint k
      where k.contypid = types.oid and k.contype <> 'n'),
    (select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = types.oid),
    (select format_type(rngsubtype, null) from pg_range where rngtypid = types.oid))
  from types where typtype <> 'c'
union all select 'operator', o.oid::regoperator::text, '' from pg_operator o join schemas s on s.oid = o.oprnamespace
  where not exists (select from extension_members m where m.classid = 'pg_operator'::regclass and m.objid = o.oid)
union all select 'collation', format('%I.%I', s.nspname, collname), concat_ws('|', collprovider, collisdeterministic)
  from pg_collation c join schemas s on s.oid = c.collnamespace
union all select 'comment', pg_describe_object(classoid, objoid, objsubid), description
  from pg_description d where (classoid = 'pg_class'::regclass and objoid in (select oid from relations))
    or (classoid = 'pg_proc'::regclass and objoid in (select oid from functions))
    or (classoid = 'pg_type'::regclass and objoid in (select oid from types))
union all select 'owner', label, pg_get_userbyid(relowner) from relations
  where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
union all select 'owner', label, pg_get_userbyid(proowner) from functions
union all select 'owner', label, pg_get_userbyid(typowner) from types
union all select 'grant', label, (select string_agg(concat_ws(' ', grantee::regrole, privilege_type, is_grantable), ','
    order by grantee::regrole::text, privilege_type)
  from aclexplode(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))))
  from relations where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
union all select 'grant', label, (select string_agg(concat_ws(' ', grantee::regrole, privilege_type, is_grantable), ','
    order by grantee::regrole::text, privilege_type) from aclexplode(coalesce(proacl, acldefault('f', proowner))))
  from functions
"""


# PostgreSQL prints an expression that it has read again with other casts and other parentheses than before:
# `status IN ('a', 'b')` on a varchar comes back from a dump as another text of the same meaning.
_NAME = r'("[^"]+"|[a-z_][a-z0-9_]*)'
_REWORDED = rf"::{_NAME}(\.{_NAME})?( varying| precision)?(\([0-9]+(,[0-9]+)?\))?( with(out)? time zone)?(\[\])*|[()]"


def catalogue_of(connection: psycopg.Connection[tuple[Any, ...]]) -> dict[str, str]:
    """Every object of the schema, such as "index public.orders_pkey", with a digest of its definition.

    Definitions are compared without casts and parentheses, but for those of functions: PostgreSQL writes them anew.
    What extensions bring along is left out: they bring it back. Columns are compared by name, since a restore may
    put an inherited one elsewhere. The connection's search_path must be the same on both sides of a comparison.

    Raises:
        DatabaseError: The server refuses.
    """
    try:
        rows = connection.execute(
            f"{_MINE}, items(kind, name, definition) as ({_ITEMS})"  # noqa: S608 - all of it is ours
            " select kind || ' ' || name, left(encode(sha256(convert_to(coalesce("
            "case when kind in ('function', 'comment') then definition"
            f" else regexp_replace(definition, '{_REWORDED}', '', 'g') end, ''), 'UTF8')), 'hex'), 16)"
            " from items order by 1"
        ).fetchall()
    except psycopg.Error as error:
        raise explained(error, "cannot read the catalogue") from None
    return dict(rows)


def differences(before: dict[str, str], after: dict[str, str], *, ownership: bool = True) -> list[str]:
    """What differs between two catalogues, one sentence each: missing, unexpected, different.

    Args:
        before: The catalogue that was.
        after: The catalogue that is.
        ownership: Whether owners and grants count.
    """
    ignored = () if ownership else tuple(f"{kind} " for kind in OWNERSHIP)
    names = sorted(name for name in before.keys() | after.keys() if not name.startswith(ignored or "\0"))
    found = []
    for name in names:
        if name not in after:
            found.append(f"{name} is missing")
        elif name not in before:
            found.append(f"{name} is new")
        elif before[name] != after[name]:
            found.append(f"{name} is different")
    return found
