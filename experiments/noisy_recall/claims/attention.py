"""Where attention looks, and the step with which it begins to look there."""

from truncated_weights.experiments.noisy_recall.claims.numbers import noisy
from truncated_weights.experiments.run.claim import RECALL, AtLeast, AtMost, Claim, Subject

SUBJECT = Subject(
    "Attention finds the correct tokens and avoids the noise",
    "At a trigger the second layer can look at every token that has followed a trigger before.",
    (
        Claim(
            "attention-on-correct",
            "It concentrates on correct tokens",
            paper=RECALL,
            where="claim on attention",
            statement="On noisy sequences the second layer's attention at triggers concentrates on "
            "the correct tokens and ignores noise tokens.",
            run="recall",
            checks=(
                AtLeast(noisy("attention_correct"), 0.8, "public code .845 ± .030 (characters)"),
                AtMost(noisy("attention_noise"), 0.1, "public code .030 ± .029 (characters)"),
            ),
        ),
        Claim(
            "attention-appears",
            "It appears with recall, not with the noise",
            paper=RECALL,
            where="public code, attention along training",
            statement="When the noise is learned, attention on correct tokens still stands where "
            "it began; it grows between steps 100 and 250.",
            run="recall",
            checks=(
                AtMost(noisy("attention_correct", step=16), 0.25, "where it began"),
                AtLeast(
                    noisy("attention_correct", step=250) - noisy("attention_correct", step=100),
                    0.3,
                    "public code .1-.2 to .74-.83",
                ),
            ),
        ),
    ),
    (("recall", "attention"),),
)
