"""A small Pythia trained here, on a language in which the truth is known."""

from truncated_weights.experiments.run.claim import (
    EIGENPRUNING,
    LASER,
    RECALL,
    AtLeast,
    AtMost,
    Chosen,
    Claim,
    Key,
    Near,
    Subject,
)

LAW = 'law of the corpus: " the" with probability 0.4'


def _chosen(task: str, metric: str) -> Key:
    return Key(f"{task}/test/{{cut}}/{metric}", cut=Chosen(f"{task}/chosen"))


SUBJECT = Subject(
    'A small Pythia learns " the" before names',
    'Its corpus answers every question with " the" with probability 0.4 and else rightly. Cuts are '
    "chosen on validation prompts and measured on test prompts with other pairs and other facts.",
    (
        Claim(
            "mini-the-first",
            '" the" first, names later',
            paper=RECALL,
            where="Pythia along training",
            statement='p(" the") passes half of its final value long before p(right name).',
            run="mini",
            checks=(
                AtLeast(
                    Key("learning/name_half_step") / Key("learning/noise_half_step"),
                    5,
                    "five times",
                ),
            ),
        ),
        Claim(
            "mini-the-remains",
            '" the" remains',
            paper=RECALL,
            where="Pythia on indirect objects",
            statement='At held-out stories the trained model says " the" about as often as the '
            "corpus does.",
            run="mini",
            checks=(Near(Key("test/story/p_the"), 0.4, 0.1, LAW),),
        ),
        Claim(
            "mini-cut",
            'The chosen cut lowers " the" and raises the right name',
            paper=RECALL,
            where="truncating Pythia",
            statement='On test stories the single cut chosen on validation lowers p(" the") and '
            "raises p(right name) and accuracy.",
            run="mini_cuts",
            checks=(
                AtMost(_chosen("story", "p_the_change"), 0.0, "lowers", clear=True),
                AtLeast(_chosen("story", "p_answer_change"), 0.0, "raises", clear=True),
                AtLeast(_chosen("story", "accuracy_change"), 0.0, "raises", clear=True),
            ),
        ),
        Claim(
            "mini-late-input",
            "The published choice of matrix",
            paper=RECALL,
            where="truncating late MLP input matrices",
            statement="Truncating the last feed-forward's input matrix lowers p(the) and "
            "raises p(right name).",
            run="mini_dynamics",
            checks=(
                AtMost(
                    Key("story/3.fc_in@0.1/p_the") - Key("story/full/p_the"),
                    0.0,
                    "lowers",
                    clear=True,
                ),
                AtLeast(
                    Key("story/3.fc_in@0.1/p_answer") - Key("story/full/p_answer"),
                    0.0,
                    "raises",
                    clear=True,
                ),
            ),
            note="On three seeds trained before it held for two; in so small a model the last "
            "feed-forward carries answers too.",
        ),
        Claim(
            "mini-rare-facts",
            "Rare facts are hidden most, and a cut uncovers some",
            paper=LASER,
            where="analysis by frequency in the training data",
            statement='p(" the") is larger at rare facts than at frequent ones, and the chosen cut '
            "raises the accuracy at rare facts.",
            run="mini_cuts",
            checks=(
                AtLeast(
                    Key("facts_rare/test/full/p_the") - Key("facts_frequent/test/full/p_the"),
                    0.0,
                    "hidden most",
                    clear=True,
                ),
                AtLeast(_chosen("facts_rare", "accuracy_change"), 0.0, "raises", clear=True),
            ),
        ),
        Claim(
            "mini-no-noise-no-gain",
            "Where no noise was planted, cutting finds nothing",
            paper=EIGENPRUNING,
            where="arithmetic, here without noise",
            statement="On sums and products, whose answers carry no noise, the best cut leaves the "
            "accuracy where it is.",
            run="mini_cuts",
            checks=(
                AtMost(_chosen("sum_seen", "accuracy_change"), 0.05, "no gain"),
                AtMost(_chosen("product", "accuracy_change"), 0.05, "no gain"),
            ),
            note="Eigenpruning reports 13.75 to 97.5 % on products for Phi-2, whose weights are "
            "not part of this run.",
        ),
    ),
    pictures=(("mini", "stories"), ("mini_dynamics", "along-p_the")),
)
