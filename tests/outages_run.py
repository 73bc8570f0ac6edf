"""Outages of 0.5 to 300 s at every kind of request, and a storm of ten minutes, in scaled time: `python tests/outages_run.py`.

Each verb runs once for each kind of request and each outage, on the same repository. It must end with 0 and the right result.
In the storm every third request fails, and all verbs run in turn until it is over.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import command_zygote
from bad_buckets import BadBucket
from command_shell import Shell
from outage_world import KINDS, prepared, s3_shell
from three_sites import portrait

OUTAGES_S = (0.5, 5.0, 60.0, 300.0)
STATUS_S = 10.0
"""`status` tells how things are: it waits 20 s for a server that does not answer."""
STORM_S = 600.0
SCALE = 20.0


class Stage:
    """One verb's repository, which can be put back to how it was."""

    def __init__(self, verb: str, root: Path) -> None:
        self.verb, self.directory, self._before = verb, root / "world", root / "before"
        self.directory.mkdir()
        self.servers = [BadBucket(), BadBucket()]
        self.shell = s3_shell(self.directory)
        self.words, self.server = prepared(verb, self.directory, self.shell, self.servers)
        shutil.copytree(self.directory, self._before, symlinks=True)
        self._objects = [dict(server.objects) for server in self.servers]

    def reset(self) -> None:
        """Put directories and buckets back."""
        shutil.rmtree(self.directory)
        shutil.copytree(self._before, self.directory, symlinks=True)
        for server, objects in zip(self.servers, self._objects, strict=True):
            server.outage, server.fault, server.objects = None, "none", dict(objects)

    def run(self, shell: Shell) -> str:
        """Run the verb; return what is wrong, or nothing."""
        done = shell(*self.words)
        if done.code != 0 or "Traceback" in done.err:
            return f"exit {done.code}: {(done.out + done.err).strip()[-400:]}"
        if self.verb == "restore" and portrait(self.directory / "out") != portrait(self.directory / "source"):
            return "what was restored differs"
        return ""

    def close(self) -> None:
        """Stop the servers."""
        for server in self.servers:
            server.close()


@contextmanager
def staged(verb: str) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="drtool-outages-") as root:
        stage = Stage(verb, Path(root))
        try:
            yield stage
        finally:
            stage.close()


def main() -> int:
    """Print a row for each verb; return how many runs failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--verb", action="append", choices=list(KINDS))
    options.add_argument("--scale", type=float, default=SCALE)
    options.add_argument("--outage", type=float, action="append", help="only outages of so many seconds")
    chosen = options.parse_args()
    os.environ["TIME_SCALE"] = str(chosen.scale)
    zygote = command_zygote.Zygote("scaled_time")
    failures = 0
    print(
        "| verb | kinds of requests | outages | runs | failed | longest run |\n|---|---:|---|---:|---:|---:|",
        flush=True,
    )
    for verb in chosen.verb or KINDS:
        outages_s = [outage_s for outage_s in chosen.outage or OUTAGES_S if verb != "status" or outage_s <= STATUS_S]
        failures += _outages(verb, outages_s, chosen.scale, zygote)
    failures += _storm(chosen.verb or list(KINDS), chosen.scale, zygote)
    zygote.close()
    return failures


def _outages(verb: str, outages_s: list[float], scale: float, zygote: command_zygote.Zygote) -> int:
    runs = failed = 0
    longest_s = 0.0
    with staged(verb) as stage:
        shell = Shell(stage.directory, stage.shell.environ, zygote)
        for method, part in KINDS[verb]:
            for outage_s in outages_s:
                stage.reset()
                stage.server.outage = (method, part, outage_s / scale)
                began_s = time.monotonic()
                wrong = stage.run(shell)
                runs, longest_s = runs + 1, max(longest_s, (time.monotonic() - began_s) * scale)
                if wrong:
                    failed += 1
                    print(f"{verb}, {method} {part}, {outage_s:g} s: {wrong}", file=sys.stderr, flush=True)
    spans = f"{min(outages_s):g} to {max(outages_s):g} s"
    print(f"| `{verb}` | {len(KINDS[verb])} | {spans} | {runs} | {failed} | {longest_s:.0f} s |", flush=True)
    return failed


def _storm(verbs: list[str], scale: float, zygote: command_zygote.Zygote) -> int:
    runs = failed = 0
    began_s = time.monotonic()
    while (time.monotonic() - began_s) * scale < STORM_S or runs < len(verbs):
        verb = verbs[runs % len(verbs)]
        with staged(verb) as stage:
            for server in stage.servers:
                server.fault = "503 every third request"
            wrong = stage.run(Shell(stage.directory, stage.shell.environ, zygote))
        runs += 1
        if wrong:
            failed += 1
            print(f"storm, {verb}: {wrong}", file=sys.stderr, flush=True)
    lasted_s = (time.monotonic() - began_s) * scale
    print(f"| all in turn | every third request fails | {lasted_s:.0f} s | {runs} | {failed} | |", flush=True)
    return failed


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
