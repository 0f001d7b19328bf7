"""How others back up to S3 and come back, each as a careful administrator would script it.

(a) `runbook`: the written runbook's plain pg_dump, compressed on its way to the disk, then uploaded.
(b) `custom`: one `pg_dump -Fc` with zstd, streamed into the bucket.
(c) `directory`: `pg_dump -Fd` with two jobs and zstd, then every file uploaded.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import boto3
from botocore.config import Config

from bench.place import Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

JOBS = "2"


def runbook_backup(place: Place) -> None:
    """(a) There."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "dump.sql.gz")
        with file.open("wb") as target:
            _pipe(place, [place.program("pg_dump"), place.source], ["gzip"], target)
        bucket(place).upload_file(str(file), place.bucket, place.key("runbook/dump.sql.gz"))


def runbook_restore(place: Place) -> None:
    """(a) Back."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "dump.sql.gz")
        bucket(place).download_file(place.bucket, place.key("runbook/dump.sql.gz"), str(file))
        psql = [place.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", place.target]
        _pipe(place, ["gunzip", "-c", str(file)], psql, subprocess.DEVNULL)


def custom_backup(place: Place) -> None:
    """(b) There."""
    command = [place.program("pg_dump"), "-Fc", "-Z", "zstd:1", place.source]
    # Popen's pipe is buffered: boto3 would take the short reads of an unbuffered one for the end of the object.
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment(place)) as dump:
        assert dump.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        bucket(place).upload_fileobj(dump.stdout, place.bucket, place.key("custom/dump"))
    _check("pg_dump", dump.returncode)


def custom_restore(place: Place) -> None:
    """(b) Back; parallel jobs need a file."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "dump")
        bucket(place).download_file(place.bucket, place.key("custom/dump"), str(file))
        _run(place, "pg_restore", "-j", JOBS, "-d", place.target, str(file))


def directory_backup(place: Place) -> None:
    """(c) There."""
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent, "dump")
        _run(place, "pg_dump", "-Fd", "-j", JOBS, "-Z", "zstd:1", "-f", str(directory), place.source)
        client = bucket(place)
        for file in sorted(directory.iterdir()):
            client.upload_file(str(file), place.bucket, place.key(f"directory/{file.name}"))


def directory_restore(place: Place) -> None:
    """(c) Back."""
    with tempfile.TemporaryDirectory() as directory:
        client = bucket(place)
        prefix = place.key("directory/")
        for entry in client.list_objects_v2(Bucket=place.bucket, Prefix=prefix)["Contents"]:
            client.download_file(place.bucket, entry["Key"], str(Path(directory, Path(entry["Key"]).name)))
        _run(place, "pg_restore", "-Fd", "-j", JOBS, "-d", place.target, directory)


def bucket(place: Place) -> S3Client:
    """A boto3 client with its defaults."""
    return boto3.client(
        "s3",
        endpoint_url=place.endpoint,
        aws_access_key_id=place.access_key,
        aws_secret_access_key=place.secret_key,
        region_name=place.region,
        config=Config(s3={"addressing_style": "path"}),
    )


def _pipe(place: Place, first: list[str], second: list[str], output: IO[bytes] | int) -> None:
    with subprocess.Popen(first, stdout=subprocess.PIPE, env=_environment(place)) as source:
        done = subprocess.run(second, stdin=source.stdout, stdout=output, env=_environment(place), check=False)
    _check(first[0], source.returncode)
    _check(second[0], done.returncode)


def _run(place: Place, program: str, *arguments: str) -> None:
    done = subprocess.run([place.program(program), *arguments], env=_environment(place), check=False)
    _check(program, done.returncode)


def _environment(place: Place) -> dict[str, str]:
    return {
        **os.environ,
        "PGHOST": place.host,
        "PGPORT": str(place.port),
        "PGUSER": place.user,
        "PGPASSWORD": place.password,
    }


def _check(program: str, status: int) -> None:
    if status != 0:
        raise RuntimeError(f"{program} exited with {status}")
