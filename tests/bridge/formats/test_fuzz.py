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


def fuzzed(**mutations):
    """{kind: {file: (refused, read)}} after so many mutations of each of its files."""
    wanted = [str(part) for pair in mutations.items() for part in pair]
    command = [sys.executable, "-W", "error", str(SCRIPT), *wanted]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout)
    for kind, counts in found.items():
        for name, (refused, read) in counts.items():
            assert refused + read == mutations[kind]
            # Damage must be found most of the time, and some damage must be harmless (or the
            # test would pass if every load failed).
            assert refused > mutations[kind] // 4, name
        assert sum(read for _, read in counts.values()) > 20
    return found


@pytest.mark.thorough
def test_mutated_files_are_refused_or_harmless():
    """One process for both kinds: starting it takes as long as a thousand files."""
    found = fuzzed(formats=120, families=15, gguf=300)
    many = {kind: len(counts) for kind, counts in found.items()}
    assert many == {"formats": 9, "families": 18, "gguf": 1}


@pytest.mark.slow
def test_ten_thousand_mutated_files_of_every_family():
    counts = fuzzed(families=600)["families"]
    assert sum(map(sum, counts.values())) >= 10_000


@pytest.mark.slow
def test_three_thousand_mutated_gguf_files():
    assert sum(fuzzed(gguf=3000)["gguf"]["model.gguf"]) == 3000
