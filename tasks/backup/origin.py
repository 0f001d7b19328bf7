"""What a database is beside its content: size, locale, owner, extensions, and the settings that go with its name."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg

from tasks.backup.snapshot import Connection
from tasks.database.connection import explained
from tasks.release.backup import Locale

PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

_DATABASE = """
select to_jsonb(d) - 'datacl', pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), pg_database_size(d.oid),
  (select count(*) from pg_largeobject_metadata),
  (select coalesce(jsonb_object_agg(extname, extversion), '{}') from pg_extension)
from pg_database d where datname = current_database()
"""

# Settings whose value is a list are quoted already, each element by itself.
_SETTINGS = """
select case when setrole = 0 then format('ALTER DATABASE %I', current_database())
    else format('ALTER ROLE %I IN DATABASE %I', pg_get_userbyid(setrole), current_database()) end
  || format(' SET %I TO ', split_part(setting, '=', 1))
  || case when split_part(setting, '=', 1) in ('search_path', 'local_preload_libraries', 'session_preload_libraries',
      'temp_tablespaces') then substr(setting, strpos(setting, '=') + 1)
    else quote_literal(substr(setting, strpos(setting, '=') + 1)) end
from pg_db_role_setting, unnest(setconfig) as setting
where setdatabase = (select oid from pg_database where datname = current_database())
union all select format('COMMENT ON DATABASE %I IS %L', datname, shobj_description(oid, 'pg_database')) from pg_database
  where datname = current_database() and shobj_description(oid, 'pg_database') is not null
union all select format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname) from pg_database
  where datname = current_database() and datacl is not null
union all select format('GRANT %s ON DATABASE %I TO %s%s', privilege_type, datname,
    case when grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(grantee)) end,
    case when is_grantable then ' WITH GRANT OPTION' else '' end)
  from pg_database, aclexplode(datacl) where datname = current_database()
union all select format('ALTER DATABASE %I CONNECTION LIMIT %s', datname, datconnlimit) from pg_database
  where datname = current_database() and datconnlimit <> -1
"""


class Origin(NamedTuple):
    """What a database is beside its content."""

    bytes: int
    owner: str
    locale: Locale
    large_objects: int
    extensions: dict[str, str]
    settings: tuple[str, ...]


def origin_of(connection: Connection) -> Origin:
    """Ask a database about itself.

    Raises:
        DatabaseError: The server refuses.
    """
    try:
        row: Any = connection.execute(_DATABASE).fetchone()
        settings = tuple(statement for (statement,) in connection.execute(_SETTINGS))
    except psycopg.Error as error:
        raise explained(error, "cannot ask the database about itself") from None
    database, owner, encoding, size, large_objects, extensions = row
    return Origin(
        bytes=size,
        owner=owner,
        locale=Locale(
            encoding=encoding,
            provider=PROVIDERS[database.get("datlocprovider", "c")],
            collate=database["datcollate"],
            ctype=database["datctype"],
            locale=database.get("datlocale") or database.get("daticulocale"),
            rules=database.get("daticurules"),
        ),
        large_objects=large_objects,
        extensions=extensions,
        settings=settings,
    )
