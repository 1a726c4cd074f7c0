"""Write docs/families.md: every recorded model of transformers and how near this bridge comes.

    python -m tests.bridge.families.table

The models are small and random, in float32 (record.py); a test compares the table with the records.
"""

import json
from pathlib import Path

import numpy as np

from tests.bridge.families.test_goldens import CASES, checkpoint, error, golden
from truncated_weights import bridge
from truncated_weights.training import atomic

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "families.md"
HEAD = """# Families

Small random models of each family, as transformers {versions} computes them in float32: the bound
that the largest difference of a logit over the largest logit stays below, without padding and
padded on either side, and whether greedy tokens are the same. Written by
`python -m tests.bridge.families.table`.

| recorded model | family | largest difference | greedy tokens |
|---|---|---|---|
"""
# The digits below are the machine's.
BOUND = 1e-5


def row(case: str) -> str:
    """One line of the table."""
    found, recorded = checkpoint(case), golden(case)
    worst = 0.0
    for side in ("none", "right", "left"):
        tokens, mask = recorded[f"{side}_tokens"], recorded[f"{side}_mask"]
        logits = bridge.logits(found, tokens, mask=mask)
        worst = max(worst, float(error(logits, recorded[f"{side}_logits"], mask)))
    told = f"below {BOUND:g}" if worst < BOUND else f"{worst:.1g}"
    return f"| {case} | {found.config.family} | {told} | {greedy(case)} |"


def greedy(case: str) -> str:
    """Whether the recorded greedy tokens are those generated here."""
    recorded = golden(case)
    if "greedy" not in recorded:
        return "a masked model"
    start = "short" if "short_tokens" in recorded else "left"
    tokens, mask = recorded[f"{start}_tokens"], recorded[f"{start}_mask"]
    new = recorded["greedy"].shape[1]
    found = bridge.generate(checkpoint(case), tokens, mask=mask, max_new_tokens=new, ends=())
    return "equal" if np.array_equal(found, recorded["greedy"]) else "differ"


def versions() -> str:
    """Those that the recorded configurations name."""
    root = ROOT / "tests" / "data" / "families"
    files = (root / case / "config.json" for case in CASES)
    said = {json.loads(file.read_text()).get("transformers_version", "?") for file in files}
    return " and ".join(sorted(said))


def text() -> str:
    """The page."""
    return HEAD.format(versions=versions()) + "\n".join(map(row, CASES)) + "\n"


if __name__ == "__main__":
    atomic.write_text(PAGE, text())
