"""Notices by email."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from tasks.notify.notice import Notice
from tasks.release.errors import NoticeError
from tasks.release.people import Email

CHECK = "check this channel's [notify.channels.email] in the environment file"
PASSING_FROM, PASSING_BELOW = 400, 500  # SMTP's codes for "not now" (RFC 5321, 4.2.1)


def send(email: Email, to: Sequence[str], notice: Notice, timeout_s: float) -> None:
    """Send a notice to some addresses through a mail server.

    Args:
        email: The server and the sender.
        to: The addresses.
        notice: What to say; its rollback procedure becomes an attachment.
        timeout_s: The longest wait for each of the server's answers.

    Raises:
        NoticeError: The server was not reached, refused, or took it for some of the addresses only.
    """
    try:
        message = _message(email, to, notice)
    except ValueError as error:  # a line end in an address of the environment file
        raise NoticeError(f"the mail cannot be written: {error}", hint=CHECK) from None
    try:
        with _server(email, timeout_s) as server:
            if email.user is not None:
                server.login(email.user, email.password.get_secret_value() if email.password else "")
            refused = server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        raise _explained(email, error) from None
    if refused:
        # The others have it by now, so the whole is not sent again.
        raise NoticeError(f"{email.host} did not take it for {', '.join(sorted(refused))}", hint=CHECK)


def _message(email: Email, to: Sequence[str], notice: Notice) -> EmailMessage:
    message = EmailMessage()
    message["From"] = email.sender
    message["To"] = ", ".join(to)
    message["Subject"] = notice.headline
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=email.sender.rpartition("@")[2].rstrip("> ") or None)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer by a machine
    message.set_content(notice.plain)
    if notice.rollback:
        message.add_attachment(notice.rollback, subtype="markdown", filename="rollback.md")
    return message


def _server(email: Email, timeout_s: float) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if email.security == "tls":
        return smtplib.SMTP_SSL(email.host, email.port, timeout=timeout_s, context=context)
    server = smtplib.SMTP(email.host, email.port, timeout=timeout_s)
    if email.security == "starttls":
        try:
            server.starttls(context=context)  # raises where the server does not offer it: never in clear instead
        except BaseException:
            server.close()
            raise
    return server


def _explained(email: Email, error: Exception) -> NoticeError:
    """The error in our own words: a server's answer may repeat what it was sent."""
    at = f"the mail server {email.host}:{email.port}"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return NoticeError(f"{at} refuses user and password ({error.smtp_code})", hint=CHECK)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        passing = all(_passing(code) for code in codes)
        return NoticeError(f"{at} takes it for none of the addresses ({codes[0]})", hint=CHECK, retryable=passing)
    if isinstance(error, smtplib.SMTPResponseException):
        passing = _passing(error.smtp_code)
        return NoticeError(f"{at} refuses the mail ({error.smtp_code})", hint=CHECK, retryable=passing)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return NoticeError(f"{at} does not offer what is asked of it: STARTTLS, or a login", hint=CHECK)
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoticeError(f"{at} has a certificate that is not trusted: {error.verify_message}", hint=CHECK)
    return NoticeError(f"{at} was not reached: {type(error).__name__}", hint=CHECK, retryable=True)


def _passing(code: int) -> bool:
    return PASSING_FROM <= code < PASSING_BELOW
