"""The map of the phases of an associative memory."""

from truncated_weights.experiments.run.claim import OURS, AtMost, Claim, Key

CLAIMS = (
    Claim(
        "phase-map",
        "Which end holds the noise, over N, alpha and time",
        paper=OURS,
        where="theory/memory_spectrum",
        statement="No trained memory lies on the other side of the predicted boundary.",
        run="phase",
        checks=(
            AtMost(Key("disagree"), 0, "points on the wrong side"),
            AtMost(Key("t2/largest_error"), 0.05, "relative error of a ratio, last time"),
        ),
    ),
)
# The last of its default times.
PICTURES = (("phase", "phase-10000"),)
