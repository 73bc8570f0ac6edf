"""A real browser, without a window: what it makes of a page that drtool wrote."""

import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest


def demand() -> str:
    """The program; a skip, or in CI a failure, where it is not here."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no browser is here: apt-get install chromium")
    return program


def opened(page: Path, profile: Path, width: int = 1200) -> tuple[str, str]:
    """(the document as the browser holds it, what it complains of on its console)."""
    done = subprocess.run(
        [
            *(demand(), "--headless", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *(f"--user-data-dir={profile}", f"--window-size={width},1000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return done.stdout, complaints


def overflow_px(page: Path, profile: Path, width: int) -> int:
    """How much wider than a window of `width` the page is: measured from around it, since the page itself runs no script, and
    windows have a least width."""
    text = escape(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text()))
    script = (
        "const inner = document.querySelector('iframe').contentDocument.documentElement;"
        "document.title = 'overflow ' + (inner.scrollWidth - inner.clientWidth)"
    )
    measured = page.with_suffix(".measured.html")
    measured.write_text(
        f'<title>-</title><iframe srcdoc="{text}" width="{width}" height="900" style="border:0" onload="{script}"></iframe>'
    )
    dom, _ = opened(measured, profile, max(width, 800))
    found = re.search(r"<title>overflow (-?\d+)</title>", dom)
    assert found, dom[:500]
    return int(found[1])
