"""What the release tool and the application may do in an embedded cluster, with each version of the server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deployments.embedded import delete, status, up
from deployments.embedded.account import BINARIES_VARIABLE, installed_binaries
from tests.deployments.embedded.conftest import named
from tests.fix_postgres import DEBIAN_15

NAME = "postgres-staging"


class Cluster:
    def __init__(self, state_dir: Path, binaries: Path) -> None:
        self.state_dir = state_dir
        self.bin = binaries
        self.port = named(status(state_dir), NAME).port

    def password(self, role: str) -> str:
        return (self.state_dir / "secrets" / f"{NAME}.{role}").read_text()

    def connect(self, role: str, dbname: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=role,
            password=self.password(role),
            dbname=dbname,
            application_name="tests",
            connect_timeout=10,
            options="-c statement_timeout=30s",
            autocommit=True,
        )

    def run(self, program: str, *arguments: str, given: bytes = b"") -> bytes:
        variables = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "runbook"}
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            input=given,
            capture_output=True,
            env={**os.environ, **variables, "PGPASSWORD": self.password("runbook")},
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture(scope="module", params=["bundled", "debian-15"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "debian-15":
            if not (DEBIAN_15 / "postgres").exists():
                pytest.skip("needs the package postgresql-15")
            patch.setenv(BINARIES_VARIABLE, str(DEBIAN_15))
        state_dir = tmp_path_factory.mktemp("roles") / ".runbook"
        up([NAME], state_dir)
        yield Cluster(state_dir, installed_binaries())
        delete(state_dir)


def test_release_tool_dumps_restores_and_renames(cluster: Cluster) -> None:
    with cluster.connect("chatbot", "chatbot_staging") as application:
        application.execute("CREATE TABLE note AS SELECT 'kept' AS body")
    dump = cluster.run("pg_dump", "--format=custom", "chatbot_staging")
    with cluster.connect("runbook", "postgres") as operator:
        operator.execute("CREATE DATABASE scratch OWNER chatbot")
        cluster.run("pg_restore", "--exit-on-error", "--no-owner", "--role=chatbot", "--dbname=scratch", given=dump)
        operator.execute("CREATE DATABASE clone TEMPLATE scratch OWNER chatbot")
        operator.execute("ALTER DATABASE chatbot_staging RENAME TO chatbot_staging_failed")
        operator.execute("ALTER DATABASE scratch RENAME TO chatbot_staging")
        operator.execute("DROP DATABASE clone")
        operator.execute("DROP DATABASE chatbot_staging_failed")
    with cluster.connect("chatbot", "chatbot_staging") as application:
        assert application.execute("SELECT body FROM note").fetchone() == ("kept",)
        owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'note'"
        assert application.execute(owner).fetchone() == ("chatbot",)


def test_release_tool_sees_and_ends_sessions(cluster: Cluster) -> None:
    with (
        cluster.connect("chatbot", "chatbot_staging") as application,
        cluster.connect("runbook", "postgres") as operator,
    ):
        pid = application.info.backend_pid
        query = "SELECT query FROM pg_stat_activity WHERE pid = %s"
        assert operator.execute(query, [pid]).fetchone() != ("<insufficient privilege>",)
        assert operator.execute("SELECT count(*) > 0 FROM pg_stat_statements WHERE query <> ''").fetchone() == (True,)
        assert operator.execute("SELECT system_identifier > 0 FROM pg_control_system()").fetchone() == (True,)
        assert operator.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)


def test_nobody_but_the_superuser_is_superuser(cluster: Cluster) -> None:
    with cluster.connect("runbook", "postgres") as operator:
        found = operator.execute(
            "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles"
            " WHERE rolname IN ('chatbot', 'runbook') ORDER BY 1"
        ).fetchall()
    assert found == [("chatbot", False, False, False), ("runbook", False, True, False)]
    with (
        cluster.connect("chatbot", "chatbot_staging") as application,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        application.execute("CREATE DATABASE mine")


def test_a_password_is_asked_for(cluster: Cluster) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(
            f"host=127.0.0.1 port={cluster.port} user=runbook password=wrong dbname=postgres connect_timeout=5"
        )
