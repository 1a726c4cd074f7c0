"""Every prediction of theory/ against simulation, read from the rows of its table."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from truncated_weights.experiments.run.claim import (
    OURS,
    RECALL,
    Claim,
    Finished,
    Judged,
    MissingError,
    Subject,
    or_nan,
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Every row of the table whose "family/name/setting" begins with this is ok.

    Each row has its own prediction, error and allowance (table.py), from which it is judged anew,
    whatever verdict stands beside them; a row that says FAIL fails too. What is told is the row
    that comes closest to its allowance.
    """

    begins: str
    source: str = "theory/, closed form or exact numerics"

    def judge(self, run: Finished) -> Judged:
        """The verdict; MissingError where there is no such row."""
        rows = [
            row
            for row in run.rows("table.json")
            if f"{row['family']}/{row['name']}/{row['setting']}".startswith(self.begins)
        ]
        if not rows:
            raise MissingError(self.begins)
        z_limit = run.summary.get("z_limit", math.nan)
        used = [share_of_allowance(row, z_limit) for row in rows]
        worst = max(range(len(rows)), key=lambda place: used[place])
        # A row at its very limit passes there and must not fail here by rounding.
        failed = used[worst] > 1 + 1e-9 or any(row["verdict"] != "ok" for row in rows)
        row = rows[worst]
        allowed, predicted = allowance(row, z_limit), or_nan(row["predicted"])
        noun = "row" if len(rows) == 1 else "rows, the tightest"
        return Judged(
            f"{len(rows)} {noun}: {row['name']} ({row['setting']})",
            or_nan(row["measured"]),
            or_nan(row["error"]) if row["error"] is not None else 0.0,
            f"{predicted:.5g} ± {allowed:.2g}",
            predicted - allowed,
            predicted + allowed,
            self.source,
            not failed,
        )


def allowance(row: Mapping[str, Any], z_limit: float) -> float:
    """How far a row may be from its prediction: what it says itself, where it does."""
    if "allowed" in row:
        return or_nan(row["allowed"])
    if row["tolerance"] is None:
        return z_limit * or_nan(row["error"])
    return row["tolerance"] * abs(or_nan(row["predicted"]))


def share_of_allowance(row: Mapping[str, Any], z_limit: float) -> float:
    """|discrepancy| of a row over what it may be; infinite where not finite."""
    allowed = allowance(row, z_limit)
    away = abs(or_nan(row["measured"]) - or_nan(row["predicted"]))
    if away == 0.0:
        return 0.0
    if not (math.isfinite(allowed) and math.isfinite(away) and allowed > 0):
        return math.inf
    return away / allowed


def _claim(
    name: str, title: str, where: str, statement: str, *begins: str, paper: str = OURS
) -> Claim:
    return Claim(
        name, title, paper=paper, where=where, statement=statement, run="theory",
        checks=tuple(map(Rows, begins)),
    )  # fmt: skip


SUBJECT = Subject(
    "Theory against simulation",
    "Simulations share no code with the predictions. Statistical rows allow for every comparison "
    "of the table (Bonferroni), the others for the error that their own approximation names.",
    (
        _claim(
            "memory-spectrum",
            "Singular values of the memory at all times",
            "theory/memory_flow; the published theorem is its long-time limit at N = 2",
            "The two singular values of the trained memory follow the flow over five decades.",
            "memory/signal singular value",
            "memory/noise singular value",
            "memory/signal value is (N-1)-fold",
            "memory/error of finite steps",
        ),
        _claim(
            "memory-decay-of-noise",
            "Truncated noise falls as the root of time",
            "theorem on the linear associative memory, N = 2; number not known",
            "At rank one p(noise) falls as t^-1/2.",
            "memory/exponent of p(noise)",
            "memory/same, predicted on this range",
            paper=RECALL,
        ),
        _claim(
            "memory-random-embeddings",
            "Random embeddings approach orthonormal ones",
            "theory/memory_corrections",
            "Logits with random embeddings deviate from the exact flow as d^-1/2.",
            "memory/d E||Z_d - Z||^2",
            "memory/exponent of rms deviation",
        ),
        _claim(
            "memory-weight-decay",
            "The memory at rest under weight decay",
            "theory/memory_decay",
            "With weight decay the memory comes to rest where two equations say.",
            "decay/",
        ),
        _claim(
            "memory-frequencies",
            "Facts by frequency",
            "theory/frequent_memory, theory/frequent_window",
            "Which facts are known, before and after the cut, follows from their frequencies.",
            "frequent/",
        ),
        _claim(
            "sequence-moments",
            "Moments of noisy sequences",
            "theory/recall_chain",
            "All first and second moments of the features of a noisy sequence are sums of powers "
            "of one matrix.",
            "chain/",
        ),
        _claim(
            "first-step",
            "The first gradient step",
            "section on one gradient step; number not known",
            "From zero weights, one step writes the predicted entries into feed-forward and value "
            "matrix and none into the keys.",
            "first step/step of F",
            "first step/step of V",
            "first step/step of W",
            paper=RECALL,
        ),
        _claim(
            "margins",
            "The feed-forward learns the noise N/2 times faster",
            "section on one gradient step; number not known",
            "After one step the feed-forward's margin for the noise is N/2 times that of the "
            "values, as N grows.",
            "first step/F margin",
            "first step/V margin",
            "first step/N x ratio",
            paper=RECALL,
        ),
        _claim(
            "finite-samples",
            "Finite samples",
            "section on one gradient step from m samples; number not known",
            "With m samples the entries of the step deviate as predicted, and as m^-1/2.",
            "first step/deviation",
            "first step/exponent of the deviation",
            "first step/F: ",
            "first step/V: ",
            paper=RECALL,
        ),
        _claim(
            "learning-times",
            "How long each takes",
            "theory/learning_times, a heuristic of three coupled logits",
            "Half times of the noise and of attention, and their growth with N.",
            "learning/",
        ),
        _claim(
            "lazy-kernel",
            "The kernel of the Transformer at its start",
            "theory/lazy, wide layers",
            "Which matrices carry the noise in the first steps, and how fast.",
            "lazy/",
        ),
    ),
    pictures=(("theory", "theory"),),
)

# Rows that stand beside the claims of other questions.
ATTENTION = (
    _claim(
        "first-attention-step",
        "The first step of attention already knows",
        "theory/attention_step",
        "With the noise in the feed-forward and copying in the values, the first step of the key "
        "matrix looks after triggers, and below that prefers ordinary tokens to the noise token.",
        "attention/g at etilde(q)",
        "attention/g at e(tau)",
        "attention/mean g at e(k)",
        "attention/order",
    ),
)
MEMORY = (
    _claim(
        "crossing-time",
        "When it overtakes",
        "theory/memory_spectrum",
        "The noise overtakes the signal at the predicted time, and never where the prediction says "
        "never.",
        "memory/crossing time",
        "memory/no crossing",
    ),
)
