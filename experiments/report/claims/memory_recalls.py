"""What the weights themselves remember, without data: three associative memories."""

from experiments.report.claim import AtLeast, Claim, Quantity, Subject

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
            where="memory recalls; section not known",
            statement="The second layer's key matrix matches a trigger to tokens after a trigger.",
            run="recall",
            checks=(AtLeast("mechanisms/recall/induction at the end", 0.9, "argmax accuracy"),),
        ),
        Claim(
            "copy-memory",
            "Its values and outputs copy",
            paper=BIRTH,
            where="memory recalls; section not known",
            statement="The second layer's value-output product maps a token to its unembedding.",
            run="recall",
            checks=(AtLeast("mechanisms/recall/copy at the end", 0.9, "argmax accuracy"),),
        ),
        Claim(
            "previous-token-memory",
            "First-layer keys match a position to the one before",
            paper=BIRTH,
            where="memory recalls; section not known",
            statement="The first layer's key matrix matches position t to t - 1 far more often "
            "than chance, and this grows while recall is learned.",
            run="recall",
            checks=(
                AtLeast("mechanisms/recall/previous_token at the end", 0.1, "chance 1/127"),
                AtLeast(
                    Quantity(
                        "mechanisms/recall/previous_token at the end",
                        minus="mechanisms/recall/previous_token at step 64",
                    ),
                    0.05,
                    "grows",
                ),
            ),
        ),
    ),
)
