"""Distributional associations: with the loss on every token, who learns the bigrams?"""

from truncated_weights.experiments.noisy_recall.claims.numbers import clean
from truncated_weights.experiments.run.claim import RECALL, At, AtLeast, AtMost, Claim, Subject

SUBJECT = Subject(
    "Feed-forwards hold what does not depend on the context",
    "The loss is taken on every token, so that the model has the language's bigrams to learn "
    "beside the recall; nats per token away from triggers tell how well.",
    (
        Claim(
            "bigrams-in-feed-forwards",
            "Bigrams are learned by the feed-forwards",
            paper=RECALL,
            where="distributional associations against in-context reasoning",
            statement="Away from triggers the model predicts better with its feed-forwards than "
            "without them, by more than with and without the last layer's attention.",
            run="all_tokens",
            checks=(
                AtLeast(
                    At("without_feed_forwards", "bigrams", step=-1)
                    - At("loss", "bigrams", step=-1),
                    0.1,
                    "feed-forwards help, in nats",
                ),
                AtLeast(
                    At("without_feed_forwards", "bigrams", step=-1)
                    - At("without_last_attention", "bigrams", step=-1),
                    0.0,
                    "more than attention does",
                    clear=True,
                ),
            ),
        ),
        Claim(
            "bigrams-before-recall",
            "They too come before recall",
            paper=RECALL,
            where="distributional associations against in-context reasoning",
            statement="Half of what is learned of the bigrams is learned by step 64, when "
            "p(correct) at triggers is still near zero.",
            run="all_tokens",
            checks=(
                AtMost(
                    At("loss", "bigrams", step=64) - At("loss", "bigrams", step=-1),
                    1.0,
                    "nats left to learn",
                ),
                AtMost(clean("p_correct", step=64), 0.1, "near zero"),
            ),
        ),
    ),
    (("all_tokens", "bigrams"), ("all_tokens", "bigram-laws")),
)
