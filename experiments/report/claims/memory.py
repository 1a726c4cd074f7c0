"""The linear associative memory with noise: probabilities, crossing, map, frequencies."""

from experiments.report.claim import (
    LASER,
    OURS,
    RECALL,
    AtLeast,
    AtMost,
    Claim,
    Near,
    Rows,
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
                Near("full/p_noise", 0.2993, 0.002, FLOW + "; finite steps move it by 0.0003"),
                AtMost("largest_logit_error", 0.02, "descent follows the flow"),
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
                Near("0.fc_in@0.5/p_noise", 0.042, 0.002, FLOW),
                Near("0.fc_in@0.5/p_correct", 0.956, 0.002, FLOW),
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
                AtMost("0.fc_in@-0.25/p_noise", 0.1, "top dropped"),
                AtLeast("0.fc_in@0.75/p_noise", 0.25, "top kept"),
            ),
        ),
        Claim(
            "crossing-time",
            "When it overtakes",
            paper=OURS,
            where="theory/memory_spectrum",
            statement="The noise overtakes the signal at the predicted time, and never where the "
            "prediction says never.",
            run="theory",
            checks=(Rows("memory/crossing time"), Rows("memory/no crossing")),
        ),
        Claim(
            "phase-map",
            "Which end holds the noise, over N, alpha and time",
            paper=OURS,
            where="theory/memory_spectrum",
            statement="No trained memory lies on the other side of the predicted boundary.",
            run="phase",
            checks=(
                AtMost("disagree", 0, "points on the wrong side"),
                AtMost("t2/largest_error", 0.05, "relative error of a ratio, last time"),
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
                Near("accuracy/full", 0.281, 0.02, "theory/frequent_window: 18 of 64 facts"),
                Near("accuracy/cut", 0.516, 0.02, "theory/frequent_window: 33 of 64 facts"),
                AtMost("largest_margin_error/full", 0.01, "margins of all facts"),
                AtMost("largest_margin_error/cut", 0.01, "margins of all facts"),
            ),
            note="LASER counts facts in a language model's training data; this is the smallest "
            "model that shows the same.",
        ),
    ),
)
