"""Thousands of damaged checkpoints, in a process of their own so that a crash is seen.

What must hold of each is asserted in fuzz.py, which runs without the type checks of the
other tests: they would make it twenty times slower.
"""

import json
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).with_name("fuzz.py")
MUTATIONS_PER_FILE = 300


def test_mutated_files_are_refused_or_harmless():
    command = [sys.executable, "-W", "error", str(SCRIPT), str(MUTATIONS_PER_FILE)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    counts = json.loads(result.stdout)
    assert sum(map(sum, counts.values())) >= 2000
    assert len(counts) == 9
    for name, (refused, read) in counts.items():
        assert refused + read == MUTATIONS_PER_FILE
        # Damage must be found most of the time, and some damage must be harmless (or the
        # test would pass if every load failed).
        assert refused > MUTATIONS_PER_FILE // 3, name
    assert sum(read for _, read in counts.values()) > 20
