"""What AWS says differently: writes that meet, and what may not be done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from pydantic import SecretStr

from tasks.release.environment import Storage
from tasks.release.errors import ConflictError, StoreError
from tasks.store.bucket import TRIES, Bucket, Stored

MET = (
    b"<Error><Code>ConditionalRequestConflict</Code><Message>A conflicting conditional operation is currently in"
    b" progress against this resource. Please try again.</Message></Error>"
)


class _Body:
    def stream(self) -> list[bytes]:
        return [MET]


@pytest.fixture
def store(s3: Any, bucket: str) -> Bucket:
    keys = {"access_key": SecretStr(s3.access_key), "secret_key": SecretStr(s3.secret_key)}
    return Bucket(Storage.model_validate({"endpoint": s3.endpoint, "bucket": bucket, **keys}))


def meets_another(store: Bucket, times: int) -> list[str]:
    """Answer the next writes as AWS does when another write is under way; what was answered so."""
    answered: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        if len(answered) == times:
            return None
        answered.append(request.url)
        return AWSResponse(request.url, 409, HTTPHeaders(), _Body())

    store.client.meta.events.register("before-send.s3.PutObject", answer)  # type: ignore[arg-type]
    return answered


def test_a_write_that_meets_another_is_tried_again(store: Bucket) -> None:
    answered = meets_another(store, TRIES - 1)
    etag = store.write("k", b"mine")
    assert store.read("k") == Stored(b"mine", etag)
    assert len(answered) == TRIES - 1


def test_a_write_that_always_meets_another_may_pass(store: Bucket) -> None:
    meets_another(store, TRIES)
    with pytest.raises(StoreError, match="ConditionalRequestConflict") as caught:
        store.write("k", b"mine")
    assert caught.value.retryable
    assert not isinstance(caught.value, ConflictError)


def test_a_read_that_is_forbidden_may_be_of_a_missing_object(store: Bucket) -> None:
    deny(store, "s3:GetObject")
    with pytest.raises(StoreError, match="AccessDenied") as caught:
        store.read("missing")
    assert "s3:ListBucket" in caught.value.hint
    assert "docs/backups.md" in caught.value.hint
    assert not caught.value.retryable


def deny(store: Bucket, action: str) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": f"arn:aws:s3:::{store.name}/*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    store.client.put_bucket_policy(Bucket=store.name, Policy=json.dumps(policy))
