"""Noisy in-context recall: what the trained model says, and what a cut leaves of it."""

from truncated_weights.experiments.noisy_recall.claims.numbers import clean
from truncated_weights.experiments.run.claim import (
    OURS,
    RECALL,
    AtLeast,
    AtMost,
    Claim,
    Near,
    Subject,
)

# The public code at T = d = 128, batch 64, 500 steps, four seeds, clean sequences. The allowance
# is three of its standard deviations over seeds.
PUBLIC = "public code, mean of four seeds"

SUBJECT = Subject(
    "Noise hides recall, and a cut uncovers it",
    "A two-layer Transformer reads sequences in which a trigger is followed by the token that this "
    "sequence has chosen, or half of the time by a noise token. Clean sequences hold no noise.",
    (
        Claim(
            "noise-remains",
            "The full model says noise about as often as it was shown noise",
            paper=RECALL,
            where="claim on the trained model",
            statement="The trained full model predicts noise with probability about alpha at a "
            "trigger, even on clean context.",
            run="recall",
            checks=(
                Near(clean("p_noise"), 0.5, 0.1, "alpha; p(noise) wanders by 0.05 in training"),
            ),
        ),
        Claim(
            "cut-uncovers-recall",
            "Without the second feed-forward only recall is left",
            paper=RECALL,
            where="claim on truncating the second feed-forward",
            statement="Removing the second feed-forward removes the noise and leaves in-context "
            "recall: the loss on clean sequences falls and p(correct) rises towards 1.",
            run="recall",
            checks=(
                AtMost(clean("p_noise", "1.mlp@0"), 0.05, "removed: below a tenth of alpha"),
                AtLeast(clean("p_correct", "1.mlp@0"), 0.8, "towards 1"),
                AtMost(clean("loss", "1.mlp@0") - clean("loss"), 0.0, "falls", clear=True),
            ),
        ),
        Claim(
            "low-rank-input",
            "A tenth of the rank of its input matrix is enough",
            paper=RECALL,
            where="claim on small rank of W_in",
            statement="Truncating the second feed-forward's input matrix to a tenth of its rank "
            "removes most of the noise and keeps recall.",
            run="recall",
            checks=(
                AtLeast(clean("accuracy", "1.fc_in@0.1"), 0.95, "recall is kept"),
                AtMost(clean("p_noise", "1.fc_in@0.1"), 0.15, "most: below a third of alpha"),
                AtLeast(
                    clean("p_correct", "1.fc_in@0.1") - clean("p_correct", "1.fc_in@0.2"),
                    0.0,
                    "less rank, less noise",
                    clear=True,
                ),
            ),
        ),
        Claim(
            "first-layer-does-not",
            "Cutting the first feed-forward does not help",
            paper=RECALL,
            where="public code: both feed-forwards are cut and compared",
            statement="Removing the first feed-forward instead of the second lowers p(correct) on "
            "clean sequences.",
            run="recall",
            checks=(
                AtMost(
                    clean("p_correct", "0.mlp@0") - clean("p_correct"), 0.0, "lowers", clear=True
                ),
            ),
        ),
        Claim(
            "one-component",
            "The noise is one component",
            paper=OURS,
            where="docs/records/find_noise.md",
            statement="Dropping the single largest singular component of the second feed-forward's "
            "output matrix recalls better than removing the whole feed-forward.",
            run="recall",
            checks=(
                AtLeast(clean("p_correct", "1.fc_out@-0.01"), 0.95, "one of 128 components"),
                AtLeast(
                    clean("p_correct", "1.fc_out@-0.01") - clean("p_correct", "1.mlp@0"),
                    0.0,
                    "better than no feed-forward",
                    clear=True,
                ),
            ),
        ),
        Claim(
            "published-full-model",
            "The published task: the full model",
            paper=RECALL,
            where="public code",
            statement="On characters of Tiny Shakespeare the full model ends, on clean sequences, "
            "with the public code's p(correct), p(noise) and loss.",
            run="published",
            checks=(
                Near(clean("p_correct"), 0.511, 0.063, PUBLIC),
                Near(clean("p_noise"), 0.486, 0.066, PUBLIC),
                Near(clean("loss"), 0.711, 0.141, PUBLIC),
            ),
        ),
        Claim(
            "published-input-cuts",
            "The published task: cuts of the second input matrix",
            paper=RECALL,
            where="public code",
            statement="With W_in of the second feed-forward at ranks 0, 0.1 and 0.2 of d the model "
            "ends with the public code's figures on clean sequences.",
            run="published",
            checks=(
                Near(clean("p_correct", "1.fc_in@0"), 0.889, 0.033, PUBLIC),
                Near(clean("p_noise", "1.fc_in@0"), 0.005, 0.003, PUBLIC),
                Near(clean("loss", "1.fc_in@0"), 0.175, 0.036, PUBLIC),
                Near(clean("loss", "1.fc_in@0.1"), 0.181, 0.060, PUBLIC),
                Near(clean("accuracy", "1.fc_in@0.1"), 0.995, 0.006, PUBLIC),
                Near(clean("p_correct", "1.fc_in@0.2"), 0.781, 0.036, PUBLIC),
                Near(clean("p_noise", "1.fc_in@0.2"), 0.180, 0.036, PUBLIC),
            ),
        ),
        Claim(
            "published-other-cuts",
            "The published task: cuts that do not help",
            paper=RECALL,
            where="public code",
            statement="Cutting W_out of the second feed-forward or W_in of the first leaves or "
            "raises the loss, as in the public code.",
            run="published",
            checks=(
                Near(clean("loss", "1.fc_out@0.1"), 1.36, 0.30, PUBLIC),
                Near(clean("loss", "1.fc_out@0.2"), 1.10, 0.27, PUBLIC),
                Near(clean("loss", "0.fc_in@0"), 1.84, 0.48, PUBLIC),
                Near(clean("loss", "0.fc_in@0.1"), 1.28, 0.30, PUBLIC),
            ),
        ),
        Claim(
            "published-no-relu",
            "The published task: without the ReLU",
            paper=RECALL,
            where="public code",
            statement="Without the ReLU of both feed-forwards, its weights the same, the model "
            "has a lower loss, as in the public code.",
            run="published",
            checks=(Near(clean("loss", "no_relu"), 0.210, 0.063, PUBLIC),),
        ),
    ),
    (("recall", "learning"), ("recall", "truncated"), ("recall", "curve-1.fc_in")),
)
