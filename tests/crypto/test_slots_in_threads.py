"""Passwords tried by several threads at once: in a separate process, because the fault to detect is an endless hang."""

import subprocess
import sys

SCRIPT = """
from concurrent.futures import ThreadPoolExecutor
from drtool.crypto.slots import Argon2Parameters, _wrapping_key
parameters = Argon2Parameters(salt=bytes(16), passes=1)
class Slot:
    argon2id = parameters
with ThreadPoolExecutor(4) as threads:
    keys = set(threads.map(lambda _: _wrapping_key(Slot, b"password"), range(24)))
assert len(keys) == 1
"""


def test_keys_are_derived_in_many_threads_at_once():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
