"""`find`, `diff` and `ls -R` beside restic's, on many small files: `python -m benchmarks.looking`.

It uses two snapshots of W4 with 1 % of the files changed in between, and one local site. The tools alternate, and the table has
medians. `ls` is measured to its first line and to its end.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.tools import TOOLS, Tool
from benchmarks.workloads import SIZES, Workloads

PATTERN = "f05*.txt"


def main() -> None:
    """Prints a table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--size", choices=SIZES, default="full")
    words.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()) / "drtool-bench")
    words.add_argument("--runs", type=int, default=5)
    given = words.parse_args()
    workloads = Workloads(given.root, SIZES[given.size])
    source = workloads.prepare("W4")
    tools = [
        TOOLS[name](given.root / "looking" / name, source, TOOLS[name].find(given.root / "downloads"))
        for name in ("drtool", "restic")
    ]
    for tool in tools:
        tool.begin()
        tool.run(tool.backup())
    with workloads.changed("W4", 1):
        for tool in tools:
            tool.run(tool.backup())
    asked = {tool.name: questions(tool) for tool in tools}
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(given.runs):
        for question in ("find", "diff", "ls"):
            for tool in tools:
                first_s, whole_s = ask(tool, asked[tool.name][question])
                taken.setdefault((question, tool.name), []).append(whole_s)
                if question == "ls":
                    taken.setdefault(("ls, first line", tool.name), []).append(first_s)
    print("| question | drtool s | restic s | ratio |\n|---|---:|---:|---:|")
    for question in ("find", "diff", "ls", "ls, first line"):
        ours, theirs = (statistics.median(taken[question, tool.name]) for tool in tools)
        print(f"| {question} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")


def questions(tool: Tool) -> dict[str, list[str]]:
    """Return the same commands for each tool. Both cache the data that they read, and the first round fills the caches."""
    if tool.name == "restic":
        old, new = _restic_ids(tool)
        return {
            "find": [tool.program, "find", PATTERN],
            "diff": [tool.program, "diff", old, new],
            "ls": [tool.program, "ls", "latest"],
        }
    old, new = _drtool_ids(tool)
    return {
        "find": [tool.program, "find", PATTERN],
        "diff": [tool.program, "diff", old, new],
        "ls": [tool.program, "ls", "-R", "latest"],
    }


def ask(tool: Tool, words: list[str]) -> tuple[float, float]:
    """Return the seconds to the first line and to the end."""
    began = time.monotonic()
    with subprocess.Popen(
        words,
        env=tool.environment(),
        cwd=tool.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        first_s = time.monotonic() - began
        while run.stdout.read(1 << 20):
            pass
    if run.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {run.returncode}")
    return first_s, time.monotonic() - began


def _restic_ids(tool: Tool) -> list[str]:
    rows = json.loads(_out(tool, [tool.program, "snapshots", "--json"]))
    return [row["short_id"] for row in rows[-2:]]


def _drtool_ids(tool: Tool) -> list[str]:
    rows = json.loads(_out(tool, [tool.program, "snapshots", "--json"]))["snapshots"]
    return [row["id"] for row in rows[-2:]]


def _out(tool: Tool, words: list[str]) -> str:
    return subprocess.run(
        words, env=tool.environment(), cwd=tool.root, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main()
