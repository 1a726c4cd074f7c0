"""Distributional associations: with the loss on every token, who learns the bigrams?"""

from experiments.report.claim import RECALL, AtLeast, AtMost, Claim, Quantity, Subject

SUBJECT = Subject(
    "Feed-forwards hold what does not depend on the context",
    "The loss is taken on every token, so that the model has the language's bigrams to learn "
    "beside the recall; nats per token away from triggers tell how well.",
    (
        Claim(
            "bigrams-in-feed-forwards",
            "Bigrams are learned by the feed-forwards",
            paper=RECALL,
            where="distributional associations against in-context reasoning; section not known",
            statement="Away from triggers the model predicts better with its feed-forwards than "
            "without them, by more than with and without the last layer's attention.",
            run="all_tokens",
            checks=(
                AtLeast(
                    Quantity(
                        "bigrams/bigram/without_feed_forwards at the end",
                        minus="bigrams/bigram/loss at the end",
                    ),
                    0.1,
                    "feed-forwards help, in nats",
                ),
                AtLeast(
                    Quantity(
                        "bigrams/bigram/without_feed_forwards at the end",
                        minus="bigrams/bigram/without_last_attention at the end",
                    ),
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
            where="distributional associations against in-context reasoning; section not known",
            statement="Half of what is learned of the bigrams is learned by step 64, when "
            "p(correct) at triggers is still near zero.",
            run="all_tokens",
            checks=(
                AtMost(
                    Quantity(
                        "bigrams/bigram/loss at step 64", minus="bigrams/bigram/loss at the end"
                    ),
                    1.0,
                    "nats left to learn",
                ),
                AtMost("models/clean/full/p_correct at step 64", 0.1, "near zero"),
            ),
        ),
    ),
)
