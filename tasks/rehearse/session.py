"""Sessions in the copy begin as those of the application do: with the settings of its role and its database."""

from __future__ import annotations

import psycopg
from psycopg import sql

from tasks.backup.scratch import refuse_foreign, server_of
from tasks.database.connection import connect, explained
from tasks.release.environment import Environment

# The least specific first, as PostgreSQL ranks them; settings whose value is a list are quoted already.
_SETTINGS = """
select quote_ident(split_part(setting, '=', 1)), case when split_part(setting, '=', 1) in
    ('search_path', 'local_preload_libraries', 'session_preload_libraries', 'temp_tablespaces')
  then substr(setting, strpos(setting, '=') + 1) else quote_literal(substr(setting, strpos(setting, '=') + 1)) end
from pg_db_role_setting, unnest(setconfig) as setting
where setdatabase in (0, (select oid from pg_database where datname = current_database()))
  and setrole in (0, coalesce((select oid from pg_roles where rolname = %(user)s), 0))
order by setrole <> 0, setdatabase <> 0
"""
_GRANTS = """
select privilege_type, case when grantee <> 0 then pg_get_userbyid(grantee) end
from pg_database, aclexplode(datacl) where datname = current_database()
"""
_USER = '"$user"'


def settle(environment: Environment, user: str, dbname: str, *, grants: bool = False) -> tuple[str, ...]:
    """Give a copy what the application's sessions find in the live database, though another role may connect to it.

    Args:
        environment: Whose.
        user: The role of the application, whose name "$user" stands for in a search_path.
        dbname: The copy.
        grants: Whether it gets the privileges on the database as a whole, too, which no dump holds.

    Returns:
        A sentence for every setting or grant that our role may not make.

    Raises:
        DatabaseError: It is no scratch database, or a server cannot be reached or refuses.
    """
    server = server_of(environment)
    refuse_foreign(server, dbname)
    with connect(environment.database, "rehearsal: settings") as connection:
        try:
            [(name, everywhere)] = connection.execute(
                "select quote_ident(%s), case source when 'configuration file' then setting else boot_val end"
                " from pg_settings where name = 'search_path'",
                [user],
            ).fetchall()
            settings = {"search_path": everywhere} | dict(connection.execute(_SETTINGS, {"user": user}).fetchall())
            granted = connection.execute(_GRANTS).fetchall() if grants else []
        except psycopg.Error as error:
            raise explained(error, "cannot ask for the settings of the application's sessions") from None
    settings["search_path"] = settings["search_path"].replace(_USER, name) or "''"
    copy = sql.Identifier(dbname)
    statements = [
        (
            f"the application's setting {setting}",
            sql.SQL("ALTER DATABASE {} SET {}").format(copy, sql.SQL(f"{setting} TO {value}")),
        )
        for setting, value in settings.items()
    ]
    for privilege, grantee in granted:
        whom = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
        what = f"the privilege {privilege} of {grantee or 'PUBLIC'}"
        statements.append((what, sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), copy, whom)))
    refused = []
    with connect(server, "rehearsal: settings", dbname=server.maintenance_database, autocommit=True) as connection:
        for what, statement in statements:
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                if error.sqlstate is None:
                    raise explained(error, "cannot give the copy its settings") from None
                words = str(error).partition("\n")[0]
                refused.append(f"the rehearsal ran without {what}: {words}")
    return tuple(refused)
