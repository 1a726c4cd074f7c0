"""Other feed-forwards, or none: where does the noise go?"""

from experiments.report.claim import OURS, RECALL, AtLeast, AtMost, Claim, Quantity, Subject

SUBJECT = Subject(
    "Without feed-forwards the noise goes into the values",
    "The same task learned by attention alone, and with one square matrix as feed-forward.",
    (
        Claim(
            "value-path",
            "Attention alone learns the noise too",
            paper=RECALL,
            where="claim on models without feed-forward; section not known",
            statement="Without any feed-forward the noise association goes into the value path.",
            run="no_feed_forward",
            checks=(AtLeast("clean/full/p_noise", 0.15, "far above one of 65 tokens"),),
        ),
        Claim(
            "value-path-cut",
            "A low rank of the value path removes part of it",
            paper=RECALL,
            where="claim on truncating W_O W_V; section not known",
            statement="Low-rank truncation of the second layer's value-output product removes part "
            "of the noise and raises the accuracy on clean sequences.",
            run="no_feed_forward",
            checks=(
                AtMost(
                    Quantity("clean/1.ov@0.1/p_noise", minus="clean/full/p_noise"),
                    -0.1,
                    "removes part",
                ),
                AtLeast(
                    Quantity("clean/1.ov@0.1/accuracy", minus="clean/full/accuracy"),
                    0.0,
                    "raises",
                    clear=True,
                ),
            ),
        ),
        Claim(
            "linear-feed-forward",
            "In a linear feed-forward the top has to go",
            paper=OURS,
            where="BUILD_NOTES.md, section 3",
            statement="With a square matrix as feed-forward, dropping its top two per cent removes "
            "the noise, while keeping only its top tenth keeps it.",
            run="linear_feed_forward",
            checks=(
                AtLeast("clean/1.fc_in@-0.02/p_correct", 0.8, "dropped"),
                AtMost("clean/1.fc_in@-0.02/p_noise", 0.15, "dropped"),
                AtLeast("clean/1.fc_in@0.1/p_noise", 0.4, "kept"),
            ),
        ),
    ),
)
