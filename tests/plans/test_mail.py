"""The email channel, against a real SMTP server."""

import socket

import pytest
from certificates import certificates
from smtp_server import smtp_server

from drtool.config.schema import ChannelConfig, EmailConfig, NotifyConfig, load_config
from drtool.errors import ConfigError
from drtool.plans import mail
from drtool.plans.channels import Channels


def tell(box, text="the disk is full", timeout_s=10.0, **more):
    ops = ChannelConfig(
        email=EmailConfig(
            **{"to": ("ops@example.org", "on@call.example"), "sender": "drtool@web1", "server": box.url} | more
        )
    )
    channels = Channels(NotifyConfig(channels={"ops": ops}), timeout_s)
    return channels.can_tell("ops") or channels.tell("ops", "on_failure", text)


def test_a_mail_reaches_every_address_and_says_what_happened():
    with smtp_server() as box:
        assert tell(box, "disk \u00e4 is full\nBcc: victim@example.org") == ""
    ((recipients, message, _),) = box.mails
    assert recipients == ["ops@example.org", "on@call.example"]
    assert message["Subject"].startswith(f"drtool on {socket.gethostname()}: disk \u00e4 is full")
    assert message["Bcc"] is None
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().splitlines() == ["disk \u00e4 is full", "Bcc: victim@example.org"]


def test_the_servers_answer_is_the_reason():
    with smtp_server() as box:
        box.refuses = "550 no such user here"
        assert "answered 550: no such user here" in tell(box)
    assert "refused" in tell(box), "the server is gone"


def test_a_silent_server_is_abandoned():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        box = type("Box", (), {"url": f"smtp://127.0.0.1:{silent.getsockname()[1]}"})
        assert tell(box, timeout_s=0.5)


def test_a_password_goes_over_verified_tls_only(tmp_path, monkeypatch):
    authority, certificate = certificates(tmp_path)
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    login = {"user": "drtool", "password_file": str(password)}
    monkeypatch.setattr(mail, "is_this_host", lambda _host: False)
    with smtp_server(certificate) as box:
        assert "CERTIFICATE_VERIFY_FAILED" in tell(box, **login)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert tell(box, **login) == ""
        assert box.logins == [("drtool", "correct horse")]
        assert [with_tls for *_, with_tls in box.mails] == [True]
        assert "must be ASCII" in tell(box, **login | {"user": "drtööl"})
    with smtp_server() as box:
        assert "a password is not sent without TLS" in tell(box, **login)
        password.chmod(0o644)
        assert "is readable by others" in tell(box, **login)
    assert box.mails == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{email: {to: [a@b]}}", "from"),
        ("{email: {to: [a@b], from: c@d, user: x}}", "must be given together"),
        ("{email: {to: [a@b], from: c@d, server: 'http://x'}}", "server"),
        ("{email: {to: [a@b], from: c@d}, webhook: 'https://x'}", "one of command, webhook and email"),
    ],
)
def test_a_wrong_channel_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "drtool.yaml"
    path.write_text(f"notify: {{channels: {{ops: {text}}}}}\n")
    with pytest.raises(ConfigError, match=said):
        load_config(path)
