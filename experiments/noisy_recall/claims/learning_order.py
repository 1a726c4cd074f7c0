"""What is learned first, where, and whether the network has to leave its first kernel for it."""

from truncated_weights.experiments.noisy_recall.claims.numbers import clean
from truncated_weights.experiments.run.claim import RECALL, AtLeast, AtMost, Claim, Key, Subject

SUBJECT = Subject(
    "Noise first, recall later",
    "Global associations come within steps, the context is read after a hundred.",
    (
        Claim(
            "noise-before-recall",
            "The noise is learned first",
            paper=RECALL,
            where="claim on the order of learning",
            statement="p(noise) passes half of its final value long before p(correct) does.",
            run="recall",
            checks=(
                AtMost(Key("learning/noise_half_step"), 16, "within steps"),
                AtLeast(
                    Key("learning/recall_half_step") / Key("learning/noise_half_step"),
                    5,
                    "long before: five times",
                ),
            ),
        ),
        Claim(
            "feed-forward-first",
            "The feed-forwards write the noise, attention writes against it",
            paper=RECALL,
            where="claim on where each is learned",
            statement="At step 4 the noise's margin is written by the feed-forwards; at the end "
            "the second layer's attention writes against the noise.",
            run="recall",
            checks=(
                AtLeast(
                    clean("margin", block="feed_forward_1", step=4)
                    - clean("margin", block="attention_1", step=4),
                    0.0,
                    "direct logit attribution",
                    clear=True,
                ),
                AtMost(clean("margin", block="attention_1", step=-1), -1.0, "against"),
                AtLeast(clean("margin", block="feed_forward_1", step=-1), 1.0, "still for it"),
            ),
        ),
    ),
    (("recall", "margins"), ("recall", "feed-forward-margins")),
)
