"""Mail to people, through an SMTP server.

Invariants
    A password is sent over verified TLS only, or to this host itself. Without a password, TLS is used if the server offers
    it. Every step has a deadline. Lines of the message cannot become headers.
"""

import smtplib
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import urlsplit

from drtool.config.schema import EmailConfig
from drtool.errors import DrtoolError
from drtool.plans.web import is_this_host

_PORTS = {"smtp": 25, "smtps": 465}
_SUBJECT_MAX = 120


def send(mail: EmailConfig, subject: str, text: str, *, password: Callable[[], str], ends_at: float) -> None:
    """Send a mail. `ends_at` is by `time.monotonic()`. Raises DrtoolError if the server did not accept it."""
    where = urlsplit(mail.server)
    message = _message(mail, subject, text)
    host, port = where.hostname or "localhost", where.port or _PORTS[where.scheme]
    try:
        server = _connected(where.scheme, host, port, max(0.1, ends_at - time.monotonic()))
        try:
            if mail.user is not None:
                _log_in(server, mail.user, password, host)
            refused = server.send_message(message)
            with suppress(smtplib.SMTPException, OSError):  # the mail is already accepted
                server.quit()
        finally:
            server.close()
    except smtplib.SMTPResponseException as error:
        raise DrtoolError(f"{host}:{port} answered {error.smtp_code}: {_said(error.smtp_error)}") from None
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        raise DrtoolError(f"{host}:{port} answered {code}: {_said(said)}") from None
    except UnicodeError:
        raise DrtoolError(f"{host}:{port}: a user name or password must be ASCII for this server") from None
    except (smtplib.SMTPException, ssl.SSLError) as error:
        raise DrtoolError(f"{host}:{port}: {error}") from None
    except OSError as error:
        raise DrtoolError(f"{host}:{port}: {error.strerror or error}") from None
    if refused:
        raise DrtoolError(f"{host}:{port} refused the mail for {', '.join(sorted(refused))}")


def _connected(scheme: str, host: str, port: int, timeout_s: float) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=context)
    server = smtplib.SMTP(host, port, timeout=timeout_s)
    try:
        server.ehlo()
        if server.has_extn("starttls") and not is_this_host(host):
            server.starttls(context=context)
    except BaseException:
        server.close()
        raise
    return server


def _log_in(server: smtplib.SMTP, user: str, password: Callable[[], str], host: str) -> None:
    if not isinstance(server.sock, ssl.SSLSocket) and not is_this_host(host):
        raise DrtoolError(f"{host} offers no TLS, and a password is not sent without TLS", hint="use smtps://")
    server.login(user, password())


def _message(mail: EmailConfig, subject: str, text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    message["Subject"] = " ".join(subject.split())[:_SUBJECT_MAX]
    message["Date"], message["Message-ID"] = formatdate(localtime=True), make_msgid(domain="drtool.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text + "\n")
    return message


def _said(words: bytes | str) -> str:
    return words if isinstance(words, str) else words.decode("utf-8", "replace")
