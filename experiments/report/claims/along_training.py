"""The same cuts at every step of training: when does cutting begin to help?"""

from experiments.report.claim import RECALL, AtLeast, AtMost, Claim, Near, Quantity, Subject


def _gain(step: int, cut: str = "1.mlp@0") -> Quantity:
    return Quantity(
        f"clean/{cut}/p_correct at step {step}", minus=f"clean/full/p_correct at step {step}"
    )


SUBJECT = Subject(
    "A cut helps from the step on at which recall is there",
    "Each checkpoint of the run above, cut at every rank; slide through it at the top of the page.",
    (
        Claim(
            "nothing-to-uncover",
            "Before recall there is nothing to uncover",
            paper=RECALL,
            where="truncation along training; section not known",
            statement="Removing the second feed-forward at step 64 does not raise p(correct).",
            run="cuts",
            checks=(Near(_gain(64), 0.0, 0.05, "no gain"),),
        ),
        Claim(
            "gain-grows",
            "Afterwards the gain grows",
            paper=RECALL,
            where="truncation along training; section not known",
            statement="From step 200 to the end removing the second feed-forward raises "
            "p(correct), by more and more.",
            run="cuts",
            checks=(
                AtLeast(_gain(200), 0.05, "there is a gain"),
                AtLeast(_gain(500), 0.25, "a larger one"),
                AtMost("clean/1.mlp@0/p_noise at step 500", 0.05, "no noise left"),
            ),
        ),
        Claim(
            "wrong-end",
            "Keeping the top of W_out keeps the noise",
            paper=RECALL,
            where="public code: W_out at rank 0.1 of d",
            statement="Truncating the second feed-forward's output matrix to few components, the "
            "other way round than its input matrix, leaves little but the noise.",
            run="cuts",
            checks=(
                AtLeast("clean/1.fc_out@0.02/p_noise at step 500", 0.6, "little but noise"),
                AtMost("clean/1.fc_out@-0.01/p_noise at step 500", 0.05, "dropped: none"),
            ),
        ),
    ),
)
