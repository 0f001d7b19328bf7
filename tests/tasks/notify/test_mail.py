"""Email through a real mail server, which takes, defers or refuses."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from deployments.embedded.ports import LOOPBACK, any_free
from tasks.notify.deliver import deliver, deliver_to
from tasks.notify.notice import Notice
from tasks.release.decisions import Delivery
from tasks.release.environment import Environment
from tasks.release.people import Contact
from tests import builders

PASSWORD = "s3cret-of-mail"
NOTICE = Notice(
    occasion="before",
    subject="Production migration v1.2: documents.0004_pinned — ünïcode",
    facts=(("What", "v1.2 to production"), ("Risk", "low")),
    rollback="## Rollback\n\ngit checkout --detach abc\n",
)


class Mailbox:
    """Takes mails down; `says` are the answers to the next ones, before it takes any."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.says: list[str] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802
        if self.says:
            return self.says.pop(0)
        self.envelopes.append(envelope)
        return "250 taken"

    @property
    def messages(self) -> list[EmailMessage]:
        contents = (one.content for one in self.envelopes)
        parsed = (
            email.message_from_bytes(one, policy=email.policy.default) for one in contents if isinstance(one, bytes)
        )
        return [one for one in parsed if isinstance(one, EmailMessage)]


Serve = Callable[..., Mailbox]


@pytest.fixture
def port() -> int:
    [port] = any_free(1)
    return port


@pytest.fixture
def serve(port: int) -> Iterator[Serve]:
    running: list[Controller] = []

    def start(**options: Any) -> Mailbox:
        mailbox = Mailbox()
        controller = Controller(mailbox, hostname=LOOPBACK, port=port, **options)
        controller.start()
        running.append(controller)
        return mailbox

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context whose certificate this process trusts."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost", LOOPBACK).configure_cert(context)
    return context


def authenticator(_server: object, _session: object, _envelope: object, _mechanism: str, data: object) -> AuthResult:
    right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=right, handled=False)


def site(port: int, timeout_s: float = 5, contacts: tuple[dict[str, Any], ...] = (), **changes: Any) -> Environment:
    server = {"host": LOOPBACK, "port": port, "security": "none", "sender": "Runbook <runbook@example.com>"}
    channel = {"name": "mail", "email": server | {"to": ["team@example.com", "dba@example.com"]} | changes}
    return builders.environment(notify={"channels": [channel], "timeout_s": timeout_s}, contacts=list(contacts))


def sent(environment: Environment, before: tuple[Delivery, ...] = ()) -> Delivery:
    noted: list[Delivery] = []
    [delivery] = deliver(environment, NOTICE, no_block, before=before, done=noted.append, pauses_s=(0.01, 0.01))
    assert noted == ([] if before else [delivery])
    return delivery


def no_block(slug: str, notice: Notice) -> None:
    raise AssertionError(slug)


def test_a_mail_has_subject_text_and_the_procedure_attached(serve: Serve, port: int) -> None:
    mailbox = serve()
    delivery = sent(site(port))
    assert (delivery.ok, delivery.tries, delivery.to, delivery.error) == (True, 1, "mail", "")
    [message] = mailbox.messages
    assert mailbox.envelopes[0].rcpt_tos == ["team@example.com", "dba@example.com"]
    assert message["Subject"] == NOTICE.headline
    assert message["From"] == "Runbook <runbook@example.com>"
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == NOTICE.plain
    [attached] = message.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("rollback.md", "text/markdown")
    assert "git checkout --detach abc" in str(attached.get_content())


def test_what_came_through_is_not_sent_again(serve: Serve, port: int) -> None:
    mailbox = serve()
    first = sent(site(port))
    assert sent(site(port), before=(first,)) == first
    assert len(mailbox.messages) == 1


def test_a_subject_cannot_become_another_header(serve: Serve, port: int) -> None:
    mailbox = serve()
    evil = NOTICE.model_copy(update={"subject": "v1\r\nBcc: eve@example.com\r\n\r\nhello"})
    deliver(site(port), evil, no_block, before=(), done=lambda _: None)
    [message] = mailbox.messages
    assert message["Bcc"] is None
    assert message["Subject"] == "v1 Bcc: eve@example.com hello"


def test_starttls_and_login(serve: Serve, port: int, authority: ssl.SSLContext, tmp_path: Path) -> None:
    mailbox = serve(tls_context=authority, auth_required=True, require_starttls=True, authenticator=authenticator)
    (tmp_path / "right").write_text(PASSWORD)
    (tmp_path / "wrong").write_text("wr0ng-password")
    secure: dict[str, Any] = {"security": "starttls", "user": "runbook"}
    assert sent(site(port, **secure, password={"file": str(tmp_path / "right")})).ok
    assert len(mailbox.messages) == 1
    refused = sent(site(port, **secure, password={"file": str(tmp_path / "wrong")}))
    assert (refused.ok, refused.tries) == (False, 1)  # another try would not help
    assert refused.error == f"the mail server {LOOPBACK}:{port} refuses user and password (535)"


def test_nothing_is_sent_in_clear_or_to_a_stranger(
    serve: Serve, port: int, authority: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = serve(tls_context=authority)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate that is not trusted" in sent(site(port, security="starttls")).error
    assert mailbox.messages == []


def test_a_server_without_starttls_gets_nothing(serve: Serve, port: int) -> None:
    mailbox = serve()
    delivery = sent(site(port, security="starttls"))
    assert "does not offer" in delivery.error
    assert (delivery.tries, mailbox.messages) == (1, [])


@pytest.mark.parametrize(
    ("answers", "ok", "tries"),
    [(["451 later"], True, 2), (["451 later"] * 3, False, 3), (["554 no, and your text was: secret"], False, 1)],
)
def test_what_may_pass_is_tried_again_and_what_may_not_is_not(
    serve: Serve, port: int, answers: list[str], ok: bool, tries: int
) -> None:
    serve().says = list(answers)
    delivery = sent(site(port))
    assert (delivery.ok, delivery.tries) == (ok, tries)
    assert "secret" not in delivery.error


def test_a_server_that_is_away_or_never_answers_is_given_up(port: int) -> None:
    away = sent(site(port))
    assert (away.ok, away.tries) == (False, 3)
    assert "was not reached" in away.error
    with socket.create_server((LOOPBACK, port)):  # accepts, and says nothing
        began = time.monotonic()
        silent = sent(site(port, timeout_s=0.2))
        assert (silent.ok, silent.tries) == (False, 3)
        assert time.monotonic() - began < 5


def test_a_contact_is_written_to_through_the_first_mail_server(serve: Serve, port: int) -> None:
    mailbox = serve()
    ada, bob = ({"name": name, "email": f"{name}@example.com"} for name in ("ada", "bob"))
    environment = site(port, contacts=(ada, bob | {"channel": "mail"}))
    delivery = deliver_to(environment, environment.contacts[0], NOTICE, no_block)
    assert (delivery.ok, delivery.to) == (True, "ada")
    assert mailbox.envelopes[0].rcpt_tos == ["ada@example.com"]
    deliver_to(environment, environment.contacts[1], NOTICE, no_block)
    assert mailbox.envelopes[1].rcpt_tos == ["team@example.com", "dba@example.com"]


def test_a_contact_without_any_mail_server_is_not_told_and_nothing_is_raised() -> None:
    delivery = deliver_to(builders.environment(), Contact(name="ada", email="ada@example.com"), NOTICE, no_block)
    assert not delivery.ok
    assert "no channel of notify.channels has a mail server" in delivery.error
