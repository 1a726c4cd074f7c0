"""Where in the spectra of the feed-forwards the noise sits."""

from experiments.report.claim import OURS, RECALL, AtLeast, AtMost, Claim, Quantity, Subject

SUBJECT = Subject(
    "The noise sits at the top of the spectrum",
    "The share of the noise direction in a singular component is the squared cosine between its "
    "output vector and the unembedding of the noise token.",
    (
        Claim(
            "top-of-output",
            "The top component of W_out is the noise direction",
            paper=OURS,
            where="BUILD_NOTES.md, section 3",
            statement="At the end of training the largest singular component of the second "
            "feed-forward's output matrix carries most of the noise direction, and stands out.",
            run="recall",
            checks=(
                AtLeast("spectra/spectrum/1.fc_out/noise_share[0] at the end", 0.5, "most"),
                AtLeast(
                    Quantity(
                        "spectra/spectrum/1.fc_out/singular_values[0] at the end",
                        over="spectra/spectrum/1.fc_out/singular_values[1] at the end",
                    ),
                    1.3,
                    "stands out from the second",
                ),
            ),
        ),
        Claim(
            "input-low-rank",
            "Little rank of W_in lets little noise through",
            paper=RECALL,
            where="claim on small rank of W_in; section not known",
            statement="The fewer components of the second feed-forward's input matrix are kept, "
            "the less noise passes.",
            run="recall",
            checks=(
                AtMost("clean/1.fc_in@0.02/p_noise", 0.05, "two of 128 components"),
                AtLeast(
                    Quantity("clean/1.fc_in@0.5/p_noise", minus="clean/1.fc_in@0.1/p_noise"),
                    0.1,
                    "rises with rank",
                ),
            ),
        ),
    ),
)
