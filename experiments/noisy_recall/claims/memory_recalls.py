"""What the weights themselves remember, without data: three associative memories."""

from truncated_weights.experiments.noisy_recall.claims.numbers import recalled
from truncated_weights.experiments.run.claim import AtLeast, Claim, Subject

BIRTH = "arXiv 2306.00802"

SUBJECT = Subject(
    "The weights are associative memories",
    "Each share counts the tokens, or positions, for which the product of a matrix with the right "
    "embedding is largest at the right place.",
    (
        Claim(
            "induction-memory",
            "Second-layer keys match the trigger to what follows it",
            paper=BIRTH,
            where="memory recalls",
            statement="The second layer's key matrix matches a trigger to tokens after a trigger.",
            run="recall",
            checks=(AtLeast(recalled("induction"), 0.9, "argmax accuracy"),),
        ),
        Claim(
            "copy-memory",
            "Its values and outputs copy",
            paper=BIRTH,
            where="memory recalls",
            statement="The second layer's value-output product maps a token to its unembedding.",
            run="recall",
            checks=(AtLeast(recalled("copy"), 0.9, "argmax accuracy"),),
        ),
        Claim(
            "previous-token-memory",
            "First-layer keys match a position to the one before",
            paper=BIRTH,
            where="memory recalls",
            statement="The first layer's key matrix matches position t to t - 1 far more often "
            "than chance, and this grows while recall is learned.",
            run="recall",
            checks=(
                AtLeast(recalled("previous_token"), 0.1, "chance 1/127"),
                AtLeast(
                    recalled("previous_token") - recalled("previous_token", step=64), 0.05, "grows"
                ),
            ),
        ),
    ),
    (("recall", "recalls"),),
)
