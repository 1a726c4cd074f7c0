"""What is learned first, where, and whether the network has to leave its first kernel for it."""

from experiments.report.claim import OURS, RECALL, AtLeast, AtMost, Claim, Near, Quantity, Subject

SUBJECT = Subject(
    "Noise first, recall later",
    "Global associations come within steps, the context is read after a hundred.",
    (
        Claim(
            "noise-before-recall",
            "The noise is learned first",
            paper=RECALL,
            where="claim on the order of learning; section not known",
            statement="p(noise) passes half of its final value long before p(correct) does.",
            run="recall",
            checks=(
                AtMost("learning/noise_half_step", 16, "within steps"),
                AtLeast(
                    Quantity("learning/recall_half_step", over="learning/noise_half_step"),
                    5,
                    "long before: five times",
                ),
            ),
        ),
        Claim(
            "feed-forward-first",
            "The feed-forwards write the noise, attention writes against it",
            paper=RECALL,
            where="claim on where each is learned; section not known",
            statement="At step 4 the noise's margin is written by the feed-forwards; at the end "
            "the second layer's attention writes against the noise.",
            run="recall",
            checks=(
                AtLeast(
                    Quantity(
                        "models/clean/full/margin/feed_forward_1 at step 4",
                        minus="models/clean/full/margin/attention_1 at step 4",
                    ),
                    0.0,
                    "direct logit attribution",
                    clear=True,
                ),
                AtMost("models/clean/full/margin/attention_1 at the end", -1.0, "against"),
                AtLeast("models/clean/full/margin/feed_forward_1 at the end", 1.0, "still for it"),
            ),
        ),
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
                    Quantity(
                        "d64/rate0.03/full/p_noise at step 4",
                        minus="d64/rate0.03/linearised/p_noise at step 4",
                    ),
                    0.0,
                    0.1,
                    "full and linearised agree",
                ),
                AtMost(
                    "d64/rate0.03/full/largest_prediction_error_to_step_4",
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
                AtLeast("d64/rate0.03/full/p_correct", 0.3, "learned by step 200"),
                AtMost("d64/rate0.03/linearised/p_correct", 0.1, "not learned"),
            ),
        ),
    ),
)
