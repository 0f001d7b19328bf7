"""Whole objects with conditional writes: nobody's write is lost, and one's own is recognised."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from deployments.embedded.ports import LOOPBACK, any_free
from tasks.release.environment import Storage
from tasks.release.errors import ConflictError, StoreError
from tasks.store.bucket import Bucket
from tests.fix_s3 import S3Server


def storage(s3: S3Server, name: str, /, **changes: object) -> Storage:
    fields = {
        "endpoint": s3.endpoint,
        "bucket": name,
        "prefix": "staging",
        "access_key": SecretStr(s3.access_key),
        "secret_key": SecretStr(s3.secret_key),
    }
    return Storage.model_validate(fields | changes)


class Forgetful:
    """A proxy before the S3 server that passes a request on and, when told to, loses the answer."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.lose = b""  # an answer is lost to the next request that begins so
        self.lost = 0
        self.listener = socket.create_server((LOOPBACK, 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        lost = threading.Event()
        with client, socket.create_connection((LOOPBACK, self.server_port)) as server:

            def forward() -> None:
                while request := client.recv(65536):
                    if self.lose and request.startswith(self.lose):
                        self.lose = b""
                        lost.set()
                    server.sendall(request)

            there = threading.Thread(target=_quietly(forward), daemon=True)
            there.start()
            _quietly(lambda: self._answer(client, server, lost))()

    def _answer(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        while answer := server.recv(65536):
            if lost.is_set() and b"100 Continue" not in answer[:40]:
                self.lost += 1
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(answer)


def _quietly(work: Callable[[], None]) -> Callable[[], None]:
    def quiet() -> None:
        try:
            work()
        except OSError:
            return  # the other side hung up

    return quiet


@pytest.fixture
def forgetful(s3: S3Server) -> Iterator[Forgetful]:
    proxy = Forgetful(s3.port)
    yield proxy
    proxy.close()


@pytest.fixture
def store(s3: S3Server, bucket: str) -> Bucket:
    return Bucket(storage(s3, bucket))


def test_what_is_written_is_read(store: Bucket) -> None:
    etag = store.write("a/b.json", b"{}")
    assert store.read("a/b.json") == (b"{}", etag)
    assert store.read("a/nothing") is None
    assert store.write("a/b.json", b"[]", etag=etag) != etag
    assert list(store.keys("a/")) == ["a/b.json"]
    assert list(store.keys("nowhere/")) == []


def test_an_object_is_created_once(store: Bucket) -> None:
    store.write("one", b"first")
    with pytest.raises(ConflictError, match="cannot write one") as caught:
        store.write("one", b"second")
    assert caught.value.key == "one"
    assert not caught.value.retryable
    found = store.read("one")
    assert found is not None
    assert found.body == b"first"


def test_of_many_writers_one_wins(store: Bucket) -> None:
    etag = store.write("one", b"old")

    def write(number: int) -> bool:
        try:
            store.write("one", b"by %d" % number, etag=etag)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1


@pytest.mark.parametrize("replace", [False, True], ids=["create", "replace"])
def test_a_write_whose_answer_was_lost_is_recognised_as_ones_own(
    s3: S3Server, bucket: str, forgetful: Forgetful, replace: bool
) -> None:
    behind = Bucket(storage(s3, bucket, endpoint=f"http://{LOOPBACK}:{forgetful.port}"))
    etag = behind.write("one", b"old") if replace else None
    forgetful.lose = b"PUT "
    new = behind.write("one", b"new", etag=etag)
    assert forgetful.lost == 1
    assert Bucket(storage(s3, bucket)).read("one") == (b"new", new)


def test_keys_come_in_order_and_from_every_page(store: Bucket) -> None:
    names = [f"many/{number:04}" for number in range(25)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(name, b""), reversed(names)))
    assert list(store.keys("many/")) == names


def test_a_server_that_is_away_may_come_back(s3: S3Server, bucket: str) -> None:
    [port] = any_free(1)
    away = Bucket(storage(s3, bucket, endpoint=f"http://{LOOPBACK}:{port}"))
    away.client.meta.config.retries["total_max_attempts"] = 1  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="cannot read one") as caught:
        away.read("one")
    assert caught.value.retryable
    assert caught.value.key == "one"
    assert "is the S3 server up?" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [{"secret_key": SecretStr("wrong-secret")}, {"access_key": SecretStr("nobody")}],
    ids=["secret", "access"],
)
def test_what_will_not_pass_is_not_tried_again(s3: S3Server, bucket: str, changes: dict[str, object]) -> None:
    wrong = Bucket(storage(s3, bucket, **changes))
    with pytest.raises(StoreError, match="cannot write one") as caught:
        wrong.write("one", b"")
    assert not caught.value.retryable
    assert "wrong-secret" not in str(caught.value)
    assert s3.secret_key not in str(caught.value)


def test_a_bucket_that_is_no_name_and_missing_credentials_are_configuration(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for changes in ({"access_key": None, "secret_key": None}, {"bucket": "no bucket!"}):
        with pytest.raises(StoreError, match="cannot read one") as caught:
            Bucket(storage(s3, bucket, **changes)).read("one")
        assert not caught.value.retryable
        assert "[storage]" in caught.value.hint


def test_encryption_is_asked_for(s3: S3Server, bucket: str) -> None:
    assert Bucket(storage(s3, bucket)).encryption() == {}
    assert Bucket(storage(s3, bucket, encryption="AES256")).encryption() == {"ServerSideEncryption": "AES256"}
    assert Bucket(storage(s3, bucket, encryption="aws:kms", kms_key="k")).encryption() == {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "k",
    }
