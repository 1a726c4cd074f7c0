"""The linear associative memory with noise: probabilities, crossing, frequencies."""

from truncated_weights.experiments.run.claim import (
    LASER,
    OURS,
    RECALL,
    At,
    AtLeast,
    AtMost,
    Claim,
    Key,
    Near,
    Subject,
)

FLOW = "theory/memory_flow, exact"

SUBJECT = Subject(
    "A linear memory with noise, solved",
    "Inputs are to be remembered, and each is answered with noise with probability alpha = 0.3. "
    "All of it follows from gradient flow on three numbers; points are trained, lines computed.",
    (
        Claim(
            "memory-full",
            "The full memory keeps saying noise",
            paper=RECALL,
            where="theorem on the linear associative memory, N = 2; number not known",
            statement="The trained memory answers with noise with probability alpha.",
            run="memory_two",
            checks=(
                Near(
                    At("p_noise", "memory", model="full", step=-1),
                    0.2993,
                    0.002,
                    FLOW + "; finite steps move it by 0.0003",
                ),
                AtMost(Key("largest_logit_error"), 0.02, "descent follows the flow"),
            ),
        ),
        Claim(
            "memory-rank-one",
            "Its rank-one truncation does not",
            paper=RECALL,
            where="theorem on the linear associative memory, N = 2; number not known",
            statement="At rank one the same memory answers correctly with probability towards 1.",
            run="memory_two",
            checks=(
                Near(At("p_noise", "memory", model="0.fc_in@0.5", step=-1), 0.042, 0.002, FLOW),
                Near(At("p_correct", "memory", model="0.fc_in@0.5", step=-1), 0.956, 0.002, FLOW),
            ),
        ),
        Claim(
            "memory-crossed",
            "With four inputs the noise ends on top",
            paper=OURS,
            where="theory/memory_spectrum; the published statement is N = 2",
            statement="For N >= 4 and small alpha the noise overtakes the signal, here at t = 233; "
            "at t = 1,000 the top component has to be dropped, and keeping it keeps the noise.",
            run="memory_four",
            checks=(
                AtMost(At("p_noise", "memory", model="0.fc_in@-0.25", step=-1), 0.1, "top dropped"),
                AtLeast(At("p_noise", "memory", model="0.fc_in@0.75", step=-1), 0.25, "top kept"),
            ),
        ),
        Claim(
            "rare-facts",
            "Dropping the top corrects facts just too rare to be known",
            paper=LASER,
            where="analysis of corrected facts by frequency",
            statement="Where inputs share a feature and come with Zipf frequencies, dropping the "
            "top component corrects facts, and the corrected ones are those predicted.",
            run="memory_zipf",
            checks=(
                Near(Key("accuracy/full"), 0.281, 0.02, "theory/frequent_window: 18 of 64 facts"),
                Near(Key("accuracy/cut"), 0.516, 0.02, "theory/frequent_window: 33 of 64 facts"),
                AtMost(Key("largest_margin_error/full"), 0.01, "margins of all facts"),
                AtMost(Key("largest_margin_error/cut"), 0.01, "margins of all facts"),
            ),
            note="LASER counts facts in a language model's training data; this is the smallest "
            "model that shows the same.",
        ),
    ),
    (
        ("memory_two", "memory-values-2"),
        ("memory_two", "memory-noise-2"),
        ("memory_four", "memory-values-4"),
        ("memory_four", "memory-noise-4"),
        ("memory_zipf", "facts"),
        ("memory_zipf", "facts-window"),
    ),
)
