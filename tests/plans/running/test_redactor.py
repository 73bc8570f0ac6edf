"""Secrets are redacted in every form, also where text was cut inside them."""

import base64
import html
from urllib.parse import quote

import pytest

from drtool.plans.running.secrets import REDACTED, redactor

SECRET = "S3cret/Token<ABCDEF"
redact = redactor({"token": SECRET})


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe="")
        .lower()
        .replace("s3cret", "S3cret")
        .replace("token", "Token")
        .replace("abcdef", "ABCDEF"),
        html.escape(SECRET),
        SECRET.encode().hex(),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_form_goes(form):
    assert redact(f"a {form} b") == f"a {REDACTED} b"


@pytest.mark.parametrize("user", ["u", "us", "use", "user"])
def test_within_longer_base64(user):
    text = redact(base64.b64encode(f"{user}:{SECRET}".encode()).decode())
    assert REDACTED in text
    assert "S3cret" not in base64.b64decode(text.split(REDACTED)[0] + "====").decode("utf-8", "replace")


@pytest.mark.parametrize("length", range(4, len(SECRET)))
def test_a_part_at_an_end_goes(length):
    assert redact(f"told: {SECRET[:length]}") == f"told: {REDACTED}"
    assert redact(f"{SECRET[-length:]} and on") == f"{REDACTED} and on"


def test_other_text_stays():
    assert redact("S3c is no secret") == "S3c is no secret"
