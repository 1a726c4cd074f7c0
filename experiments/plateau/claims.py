"""Why p(noise) wanders after it has been learned."""

from truncated_weights.experiments.run.claim import OURS, AtMost, Claim, Key, Near

CLAIMS = (
    Claim(
        "plateau",
        "Why p(noise) wanders at its plateau",
        paper=OURS,
        where="theory/plateau, all directions of the Gauss-Newton matrix",
        statement="The coin flips of the labels, ringing with the optimiser's momentum in "
        "every direction, make p(noise) wander as far and as fast as it does; with the labels "
        "replaced by their law little is left, and nothing stands at the edge of stability.",
        run="plateau",
        checks=(
            Near(Key("modes/deviation/factor"), 1.0, 0.2, "measured over predicted deviation"),
            Near(
                Key("modes/dip/factor"),
                1.0,
                0.1,
                "measured over predicted lag of the first dip",
            ),
            AtMost(
                Key("batch32/rate0.03/momentum0.9/fair/deviation")
                / Key("batch32/rate0.03/momentum0.9/drawn/deviation"),
                0.5,
                "less than half of it without the coin flips",
            ),
            AtMost(Key("beyond_edge"), 0, "no setting at the edge of stability"),
        ),
    ),
)
PICTURES = (("plateau", "plateau-watched"),)
