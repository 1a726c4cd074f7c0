"""The same cuts at every step of training: when does cutting begin to help?"""

from truncated_weights.experiments.run.claim import (
    RECALL,
    At,
    AtLeast,
    AtMost,
    Claim,
    Near,
    Quantity,
    Subject,
)


def _at(variable: str, model: str, step: int) -> At:
    return At(variable, "models", set="clean", model=model, step=step)


def _gain(step: int, cut: str = "1.mlp@0") -> Quantity:
    return _at("p_correct", cut, step) - _at("p_correct", "full", step)


SUBJECT = Subject(
    "A cut helps from the step on at which recall is there",
    "Each checkpoint of the run above, cut at every rank; slide through it at the top of the page.",
    (
        Claim(
            "nothing-to-uncover",
            "Before recall there is nothing to uncover",
            paper=RECALL,
            where="truncation along training",
            statement="Removing the second feed-forward at step 64 does not raise p(correct).",
            run="cuts",
            checks=(Near(_gain(64), 0.0, 0.05, "no gain"),),
        ),
        Claim(
            "gain-grows",
            "Afterwards the gain grows",
            paper=RECALL,
            where="truncation along training",
            statement="From step 200 to the end removing the second feed-forward raises "
            "p(correct), by more and more.",
            run="cuts",
            checks=(
                AtLeast(_gain(200), 0.05, "there is a gain"),
                AtLeast(_gain(500), 0.25, "a larger one"),
                AtMost(_at("p_noise", "1.mlp@0", 500), 0.05, "no noise left"),
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
                AtLeast(_at("p_noise", "1.fc_out@0.02", 500), 0.6, "little but noise"),
                AtMost(_at("p_noise", "1.fc_out@-0.01", 500), 0.05, "dropped: none"),
            ),
        ),
    ),
    pictures=(("cuts", "along-p_correct"), ("cuts", "along-p_noise"), ("cuts", "kept-1.fc_out")),
)
