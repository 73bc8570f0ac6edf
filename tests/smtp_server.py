"""A real SMTP server on a free loopback port, in a thread of its own."""

import asyncio
import ssl
import threading
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default

from aiosmtpd.smtp import SMTP, AuthResult


class Mailbox:
    """What the server took; `refuses` is its answer to a recipient, if any."""

    def __init__(self):
        self.mails, self.logins, self.refuses, self.port = [], [], "", 0

    @property
    def url(self):
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - by the library
        if self.refuses:
            return self.refuses
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, session, envelope):  # noqa: N802 - by the library
        self.mails.append(
            (envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default), session.ssl is not None)
        )
        return "250 OK"

    def authenticate(self, _server, _session, _envelope, _mechanism, data):
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)


@contextmanager
def smtp_server(certificate=None):
    """A server that takes mail until the end of the `with`; it offers TLS and logins if there is a certificate."""
    box, loop = Mailbox(), asyncio.new_event_loop()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    def session():
        return SMTP(box, loop=loop, tls_context=context, authenticator=box.authenticate, auth_require_tls=True)

    server = loop.run_until_complete(loop.create_server(session, "127.0.0.1", 0))
    box.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
