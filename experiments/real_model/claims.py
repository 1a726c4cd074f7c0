"""What a cut does to a real language model, and what it does not."""

from truncated_weights.experiments.run.claim import (
    LASER,
    OURS,
    RECALL,
    At,
    AtLeast,
    AtMost,
    Chosen,
    Claim,
    Near,
)

# As in verdict.py, which imports what claims must not.
SHARE = 0.5
_BEST = Chosen("chosen")


def _change(variable: str, model: "str | Chosen" = _BEST, wording: str = "asked") -> At:
    return At(variable, "changes", model=model, wording=wording)


def _text(model: "str | Chosen") -> At:
    return At("loss", "text", model=model)


CLAIMS = (
    Claim(
        "real-layer",
        "In a real model one late feed-forward says the generic word",
        paper=RECALL,
        where="Pythia, facts about countries",
        statement='Asked for the country of a city, SmolLM2 says " the". With one matrix of a late '
        "feed-forward cut it says it less and names the country more often.",
        run="real",
        checks=(
            AtLeast(_change("accuracy_low"), 0.05, "lower end of the gain of the chosen cut"),
            AtMost(_change("p_the_high"), -0.1, 'upper end of the change of p(" the")'),
        ),
    ),
    Claim(
        "real-metric",
        "In the data's metric the generic word is the first component",
        paper=OURS,
        where="experiments/real_model",
        statement="Dropping the first component of that layer's output matrix as measured by the "
        "data lowers the generic word; dropping the one of largest singular value does nothing.",
        run="real",
        checks=(
            AtMost(_change("p_the_high", "28.fc_out@whitened:-0.002"), -0.1, "whitened"),
            Near(_change("p_the_change", "28.fc_out@-0.002"), 0.0, 0.05, "by size"),
        ),
    ),
    Claim(
        "real-wording",
        "It is wording, not knowledge",
        paper=LASER,
        where="gains in accuracy, read as facts that come out",
        statement="The choice among the countries and a prompt that asks for a country gain less "
        "than half of what accuracy gains, by the far ends of the intervals.",
        run="real",
        checks=(
            AtMost(_change("closed_high") / _change("accuracy_low"), SHARE, "among the countries"),
            AtMost(
                _change("accuracy_high", wording="reworded") / _change("accuracy_low"),
                SHARE,
                "reworded",
            ),
        ),
        note="So a gain in accuracy alone does not tell reasoning from the kind of word.",
    ),
    Claim(
        "real-cost",
        "It costs on plain text",
        paper=OURS,
        where="experiments/real_model",
        statement="The cut that gains most raises the loss on plain text.",
        run="real",
        checks=(AtLeast(_text(_BEST) - _text("full"), 0.1, "nats a token"),),
    ),
)
PICTURES = (("real", "real-layers"), ("real", "real-beside"))
