"""Where in the spectra of the feed-forwards the noise sits."""

from truncated_weights.experiments.noisy_recall.claims.numbers import clean
from truncated_weights.experiments.run.claim import (
    OURS,
    RECALL,
    At,
    AtLeast,
    AtMost,
    Claim,
    Subject,
)

SUBJECT = Subject(
    "The noise sits at the top of the spectrum",
    "The share of the noise direction in a singular component is the squared cosine between its "
    "output vector and the unembedding of the noise token.",
    (
        Claim(
            "top-of-output",
            "The top component of W_out is the noise direction",
            paper=OURS,
            where="docs/records/recall.md",
            statement="At the end of training the largest singular component of the second "
            "feed-forward's output matrix carries most of the noise direction, and stands out.",
            run="recall",
            checks=(
                AtLeast(
                    At("noise_share", "spectra", matrix="1.fc_out", step=-1, rank=0), 0.5, "most"
                ),
                AtLeast(
                    At("singular_values", "spectra", matrix="1.fc_out", step=-1, rank=0)
                    / At("singular_values", "spectra", matrix="1.fc_out", step=-1, rank=1),
                    1.3,
                    "stands out from the second",
                ),
            ),
        ),
        Claim(
            "input-low-rank",
            "Little rank of W_in lets little noise through",
            paper=RECALL,
            where="claim on small rank of W_in",
            statement="The fewer components of the second feed-forward's input matrix are kept, "
            "the less noise passes.",
            run="recall",
            checks=(
                AtMost(clean("p_noise", "1.fc_in@0.02"), 0.05, "two of 128 components"),
                AtLeast(
                    clean("p_noise", "1.fc_in@0.5") - clean("p_noise", "1.fc_in@0.1"),
                    0.1,
                    "rises with rank",
                ),
            ),
        ),
    ),
    (("recall", "spectrum-1.fc_out"), ("recall", "spectrum-1.fc_in")),
)
