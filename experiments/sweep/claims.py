"""How what was found depends on the strength of the noise and the number of tokens."""

from truncated_weights.experiments.run.claim import (
    OURS,
    RECALL,
    AtLeast,
    Claim,
    Key,
    Near,
    Quantity,
    Subject,
)


def _gain(tokens: int, alpha: float, cut: str) -> Quantity:
    point = f"num_tokens={tokens},alpha={alpha:g}/clean"
    return Key(f"{point}/{cut}/p_correct") - Key(f"{point}/full/p_correct")


def _everywhere(cut: str) -> tuple[AtLeast, ...]:
    return tuple(
        AtLeast(_gain(tokens, alpha, cut), 0.0, "raises", clear=True)
        for tokens in (16, 32)
        for alpha in (0.1, 0.5)
    )


SUBJECT = Subject(
    "It is not one setting",
    "The same task over the number of tokens and alpha, at d = T = 64.",
    (
        Claim(
            "scaling-no-feed-forward",
            "Removing the feed-forward helps at weak and at strong noise",
            paper=RECALL,
            where="claim on truncating the second feed-forward",
            statement="Removing the second feed-forward raises p(correct) for 16 and 32 tokens and "
            "for alpha of 0.1 and 0.5.",
            run="sweep",
            checks=_everywhere("1.mlp@0"),
        ),
        Claim(
            "scaling-top-dropped",
            "So does dropping one component",
            paper=OURS,
            where="docs/records/sweeps.md",
            statement="Dropping the top component of the second feed-forward's output matrix does "
            "so too.",
            run="sweep",
            checks=_everywhere("1.fc_out@-0.02"),
        ),
        Claim(
            "scaling-noise-time",
            "When the noise is learned",
            paper=OURS,
            where="theory/lazy, no network at hand",
            statement="The predicted time at which the noise is half learned is right within a "
            "third, over the whole map.",
            run="sweep",
            checks=(
                Near(Key("theory/half_step/noise/factor"), 1.0, 1 / 3, "measured over predicted"),
            ),
        ),
        Claim(
            "scaling-margins",
            "How much more of it the feed-forwards write",
            paper=OURS,
            where="theory/lazy, margin_ratio",
            statement="The predicted ratio of what feed-forwards and attention write for the noise "
            "in the first step is right within a third.",
            run="sweep",
            checks=(
                Near(Key("theory/margin/ratio/factor"), 1.0, 1 / 3, "measured over predicted"),
            ),
        ),
    ),
    pictures=(("sweep", "points"),),
)
