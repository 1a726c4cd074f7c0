"""Other feed-forwards, or none: where does the noise go?"""

from truncated_weights.experiments.noisy_recall.claims.numbers import clean
from truncated_weights.experiments.run.claim import OURS, RECALL, AtLeast, AtMost, Claim, Subject

SUBJECT = Subject(
    "Without feed-forwards the noise goes into the values",
    "The same task learned by attention alone, and with one square matrix as feed-forward.",
    (
        Claim(
            "value-path",
            "Attention alone learns the noise too",
            paper=RECALL,
            where="claim on models without feed-forward",
            statement="Without any feed-forward the noise association goes into the value path.",
            run="no_feed_forward",
            checks=(AtLeast(clean("p_noise"), 0.15, "far above one of 65 tokens"),),
        ),
        Claim(
            "value-path-cut",
            "A low rank of the value path removes part of it",
            paper=RECALL,
            where="claim on truncating W_O W_V",
            statement="Low-rank truncation of the second layer's value-output product removes part "
            "of the noise and raises the accuracy on clean sequences.",
            run="no_feed_forward",
            checks=(
                AtMost(clean("p_noise", "1.ov@0.1") - clean("p_noise"), -0.1, "removes part"),
                AtLeast(
                    clean("accuracy", "1.ov@0.1") - clean("accuracy"), 0.0, "raises", clear=True
                ),
            ),
        ),
        Claim(
            "linear-feed-forward",
            "In a linear feed-forward the top has to go",
            paper=OURS,
            where="docs/records/recall.md",
            statement="With a square matrix as feed-forward, dropping its top two per cent removes "
            "the noise, while keeping only its top tenth keeps it.",
            run="linear_feed_forward",
            checks=(
                AtLeast(clean("p_correct", "1.fc_in@-0.02"), 0.8, "dropped"),
                AtMost(clean("p_noise", "1.fc_in@-0.02"), 0.15, "dropped"),
                AtLeast(clean("p_noise", "1.fc_in@0.1"), 0.4, "kept"),
            ),
        ),
    ),
    (
        ("no_feed_forward", "curve-1.ov"),
        ("linear_feed_forward", "truncated"),
        ("linear_feed_forward", "curve-1.fc_in"),
    ),
)
