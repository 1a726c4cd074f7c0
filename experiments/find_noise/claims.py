"""Selection rules judged where the truth is known: which finds the noise, at what cost?"""

from truncated_weights.experiments.run.claim import (
    EIGENPRUNING,
    LASER,
    OURS,
    At,
    AtLeast,
    AtMost,
    Claim,
    Is,
    Key,
    Near,
    Subject,
)

GUIDED = "arXiv 2510.20800"


def _correct(rule: str) -> At:
    return At("p_correct", "rules", set="clean", rule=rule)


def _evaluations(rule: str) -> At:
    return At("evaluations", "rules", set="clean", rule=rule)


SUBJECT = Subject(
    "Which rule finds the noise",
    "Each rule sees clean validation sequences of the trained model above and chooses what to cut; "
    "its choice is measured once on test sequences. An evaluation is a forward pass of one example "
    "over the number of examples, a backward pass two more.",
    (
        Claim(
            "grid-finds-it",
            "A grid over matrices and ranks finds it",
            paper=LASER,
            where="the search over matrix, layer and rank",
            statement="The best single cut of one matrix, chosen on validation sequences, removes "
            "the noise from test sequences.",
            run="rules",
            checks=(
                AtLeast(_correct("grid"), 0.9, "removed"),
                Is("clean/grid/chosen", ("1.fc_out@-0.01",), "top of the last output matrix"),
            ),
            note="LASER keeps the largest components only; this grid may also drop them.",
        ),
        Claim(
            "largest-kept-stops-short",
            "Keeping the largest components stops short",
            paper=LASER,
            where="the form of its interventions",
            statement="Where only the largest components may be kept, the best cut improves on the "
            "full model and stays behind the cut that drops the top.",
            run="rules",
            checks=(
                AtLeast(_correct("grid, largest kept") - _correct("full model"), 0.2, "improves"),
                AtMost(
                    _correct("grid, largest kept") - _correct("grid"),
                    0.0,
                    "stays behind",
                    clear=True,
                ),
            ),
        ),
        Claim(
            "guided-is-cheaper",
            "One backward pass finds the grid's choice",
            paper=GUIDED,
            where="gradient-guided candidates",
            statement="Gradients of the loss by singular values find what the grid finds at a "
            "quarter of its evaluations.",
            run="rules",
            checks=(
                AtMost(Key("guided/missed_p_correct"), 0.02, "of the grid's p(correct)"),
                AtMost(
                    _evaluations("gradient-guided") / _evaluations("grid"),
                    0.26,
                    "a quarter",
                ),
            ),
        ),
        Claim(
            "composition-adds-nothing",
            "One cut is the story",
            paper=LASER,
            where="composition of interventions",
            statement="Greedy composition over many matrices gains nothing on the single best cut.",
            run="rules",
            checks=(
                Near(
                    _correct("greedy, best first") - _correct("grid"),
                    0.0,
                    0.02,
                    "nothing",
                ),
            ),
        ),
        Claim(
            "data-free-rules-harm",
            "Rules that see no data remove recall with the noise",
            paper=OURS,
            where="random-matrix edges: Gavish and Donoho; Marchenko and Pastur",
            statement="Cutting every matrix to what rises above a random-matrix edge leaves a "
            "model that does not recall.",
            run="rules",
            checks=(
                AtMost(_correct("Gavish-Donoho"), 0.2, "does not recall"),
                AtMost(_correct("Marchenko-Pastur"), 0.2, "does not recall"),
            ),
        ),
        Claim(
            "eigenpruning-finds-it",
            "Eigenpruning finds it",
            paper=EIGENPRUNING,
            where="effect of single directions",
            statement="Directions scored by their first-order effect, the lowest removed, recall "
            "better than the full model and than a random pruning of the same size.",
            run="rules",
            checks=(
                AtLeast(_correct("eigenpruning"), 0.9, "noise removed"),
                AtLeast(
                    _correct("eigenpruning") - _correct("random pruning"),
                    0.1,
                    "not by chance",
                ),
            ),
        ),
        Claim(
            "mean-brings-noise-back",
            "Keeping the mean of what is removed keeps the noise",
            paper=EIGENPRUNING,
            where="folding the mean input into a bias",
            statement="A global association is a mean output: with the mean kept, pruning has to "
            "look elsewhere and ends below pruning without.",
            run="rules",
            checks=(
                AtMost(
                    _correct("eigenpruning, mean kept") - _correct("eigenpruning"),
                    0.0,
                    "below",
                    clear=True,
                ),
            ),
        ),
    ),
    pictures=(("rules", "rules"), ("rules", "rules-cost")),
)
