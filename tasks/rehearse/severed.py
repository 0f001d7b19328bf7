"""Ways out of a copy that lie in the database itself: foreign servers, and functions that connect elsewhere."""

from __future__ import annotations

import psycopg
from psycopg import sql

from tasks.backup.scratch import refuse_foreign, server_of
from tasks.database.connection import connect, explained, name_of
from tasks.release.environment import Environment

# Without a mapping for a user, a foreign server is not connected to. 0 stands for everybody.
_MAPPINGS = """
select srvname, case umuser when 0 then null else usename end from pg_user_mappings order by 1, 2
"""
_DBLINK = """
select n.nspname, p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
  (current_setting('is_superuser') = 'on' or pg_has_role(p.proowner, 'USAGE'))
from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
join pg_extension e on d.refclassid = 'pg_extension'::regclass and e.oid = d.refobjid and e.extname = 'dblink'
where l.lanname = 'c' and p.proname in
  ('dblink', 'dblink_connect', 'dblink_connect_u', 'dblink_exec', 'dblink_open', 'dblink_send_query')
"""
_BODY = "begin raise exception 'a rehearsal does not reach other databases'; end"


def sever(environment: Environment, dbname: str) -> tuple[str, ...]:
    """Close the ways that lead out of a copy; views, triggers and functions of the application may use them.

    User mappings of foreign servers are dropped, and what dblink connects by is replaced by an error.

    Args:
        environment: Whose.
        dbname: The copy, which the application has not connected to yet.

    Returns:
        A sentence for each way that our role may not close.

    Raises:
        DatabaseError: It is no scratch database, or the server cannot be reached or refuses.
    """
    server = server_of(environment)
    refuse_foreign(server, dbname)
    left = []
    with connect(server, "rehearsal: sever", dbname=dbname) as connection:
        try:
            for name, user in connection.execute(_MAPPINGS).fetchall():
                whose = sql.SQL("public") if user is None else sql.Identifier(user)
                connection.execute(sql.SQL("drop user mapping for {} server {}").format(whose, sql.Identifier(name)))
            for schema, name, arguments, result, ours in connection.execute(_DBLINK).fetchall():
                if not ours:
                    left.append(f"{schema}.{name}({arguments}) of dblink could reach other databases from the copy")
                    continue
                # `arguments` and `result` are PostgreSQL's own words, quoted where need be.
                connection.execute(
                    sql.SQL("create or replace function {}({}) returns {} language plpgsql as {}").format(
                        sql.Identifier(schema, name), sql.SQL(arguments), sql.SQL(result), sql.Literal(_BODY)
                    )
                )
        except psycopg.Error as error:
            raise explained(error, f"cannot close the ways out of {name_of(server, dbname)}") from None
    return tuple(left)
