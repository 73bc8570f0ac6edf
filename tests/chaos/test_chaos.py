"""The scenario of `make chaos`, short: real processes, real disks, every fault that this machine allows, and the verdict."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run.py")
SEED = 20


def play(result, *words):
    """The script's exit code and output, and what it wrote down."""
    command = [sys.executable, str(SCRIPT), "--quiet", "--result", str(result), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    return done.returncode, done.stdout + done.stderr, json.loads(result.read_text()) if result.exists() else {}


def test_one_order_explains_what_four_writers_and_two_readers_saw(tmp_path):
    code, text, result = play(tmp_path / "result.json", "--steps", "calm", "--seconds", 2, "--seed", SEED)
    assert (code, result["violations"]) == (0, []), text
    assert "No violation" in text
    assert result["acknowledged"], text


@pytest.mark.thorough
def test_one_order_explains_what_they_saw_while_sites_fell_away(tmp_path):
    code, text, result = play(tmp_path / "result.json", "--seconds", 14, "--seed", SEED)
    assert code == 0, text
    assert "No violation" in text
    assert result["violations"] == []
    assert result["acknowledged"] >= 10, text
    assert result["appends"], text
    for fault, count in result["faults"].items():
        assert count or fault == "calm", f"{fault} never happened:\n{text}"
    for fault, why in result["missing"].items():
        assert why, fault


@pytest.mark.thorough
def test_a_protocol_that_is_broken_is_caught(tmp_path):
    """By a fault that shows wherever four write at once: one that needs a site to be away at the right moment may go unseen."""
    breaking = ("--steps", "calm", "--mutation", "inbox-entries-applied-without-dedupe")
    code, text, result = play(tmp_path / "result.json", "--seconds", 4, "--seed", SEED, *breaking)
    assert code == 1, text
    assert result["violations"], text
    assert f"again: make chaos SECONDS=4 SEED={SEED}" in text


@pytest.mark.parametrize("word", ["--steps=earthquake", "--mutation=none"])
def test_a_fault_that_there_is_not_is_refused(tmp_path, word):
    code, text, _ = play(tmp_path / "result.json", word)
    assert code == 2
    assert "invalid choice" in text
