"""Where attention looks, and the step with which it begins to look there."""

from experiments.report.claim import OURS, RECALL, AtLeast, AtMost, Claim, Quantity, Rows, Subject

SUBJECT = Subject(
    "Attention finds the correct tokens and avoids the noise",
    "At a trigger the second layer can look at every token that has followed a trigger before.",
    (
        Claim(
            "attention-on-correct",
            "It concentrates on correct tokens",
            paper=RECALL,
            where="claim on attention; section not known",
            statement="On noisy sequences the second layer's attention at triggers concentrates on "
            "the correct tokens and ignores noise tokens.",
            run="recall",
            checks=(
                AtLeast(
                    "noisy/full/attention_correct", 0.8, "public code .845 ± .030 (characters)"
                ),
                AtMost("noisy/full/attention_noise", 0.1, "public code .030 ± .029 (characters)"),
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
                AtMost("models/noisy/full/attention_correct at step 16", 0.25, "where it began"),
                AtLeast(
                    Quantity(
                        "models/noisy/full/attention_correct at step 250",
                        minus="models/noisy/full/attention_correct at step 100",
                    ),
                    0.3,
                    "public code .1-.2 to .74-.83",
                ),
            ),
        ),
        Claim(
            "first-attention-step",
            "The first step of attention already knows",
            paper=OURS,
            where="theory/attention_step",
            statement="With the noise in the feed-forward and copying in the values, the first "
            "step of the key matrix looks after triggers, and below that prefers ordinary tokens "
            "to the noise token.",
            run="theory",
            checks=(
                Rows("attention/g at etilde(q)"),
                Rows("attention/g at e(tau)"),
                Rows("attention/mean g at e(k)"),
                Rows("attention/order"),
            ),
        ),
    ),
)
