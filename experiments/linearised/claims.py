"""Whether the network has to leave its first kernel for what it learns."""

from truncated_weights.experiments.run.claim import OURS, At, AtLeast, AtMost, Claim, Key, Near


def _learned(metric: str, variant: str, step: int = -1) -> At:
    return At(metric, "models", width=64, rate=0.03, variant=variant, step=step)


CLAIMS = (
    Claim(
        "noise-is-lazy",
        "The noise is learned with the kernel of the first step",
        paper=OURS,
        where="theory/lazy",
        statement="Up to step 4 the network linearised around its start learns the noise as "
        "the full network does, and as the kernel of wide random networks predicts.",
        run="linearised",
        checks=(
            Near(
                _learned("p_noise", "full", step=4) - _learned("p_noise", "linearised", step=4),
                0.0,
                0.1,
                "full and linearised agree",
            ),
            AtMost(
                Key("d64/rate0.03/full/largest_prediction_error_to_step_4"),
                0.1,
                "closed form, attention neglected",
            ),
        ),
    ),
    Claim(
        "recall-is-not-lazy",
        "Recall is not",
        paper=OURS,
        where="theory/lazy",
        statement="The linearised network does not learn to recall while the full one does.",
        run="linearised",
        checks=(
            AtLeast(_learned("p_correct", "full"), 0.3, "learned by step 200"),
            AtMost(_learned("p_correct", "linearised"), 0.1, "not learned"),
        ),
    ),
)
PICTURES = (("linearised", "noise-d64-rate0.03"), ("linearised", "recall-d64-rate0.03"))
