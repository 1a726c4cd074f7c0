"""Thousands of damaged checkpoints, in a process of their own so that a crash is seen.

What must hold of each is asserted in fuzz.py, which runs without the type checks of the
other tests: they would make it twenty times slower.
"""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("fuzz.py")


def counts_of(kind, mutations):
    command = [sys.executable, "-W", "error", str(SCRIPT), kind, str(mutations)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    counts = json.loads(result.stdout)
    for name, (refused, read) in counts.items():
        assert refused + read == mutations
        # Damage must be found most of the time, and some damage must be harmless (or the
        # test would pass if every load failed).
        assert refused > mutations // 4, name
    assert sum(read for _, read in counts.values()) > 20
    return counts


def test_mutated_files_are_refused_or_harmless():
    assert len(counts_of("formats", 300)) == 9


def test_mutated_files_of_every_family():
    assert len(counts_of("families", 25)) == 18


@pytest.mark.slow
def test_ten_thousand_mutated_files_of_every_family():
    counts = counts_of("families", 600)
    assert sum(map(sum, counts.values())) >= 10_000
