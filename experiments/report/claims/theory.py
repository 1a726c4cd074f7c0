"""Every prediction of theory/ against simulation, read from the table of verify_theory."""

from experiments.report.claim import OURS, RECALL, AtMost, Claim, Near, Quantity, Rows, Subject


def _claim(
    name: str, title: str, where: str, statement: str, *begins: str, paper: str = OURS
) -> Claim:
    return Claim(
        name, title, paper=paper, where=where, statement=statement, run="theory",
        checks=tuple(map(Rows, begins)),
    )  # fmt: skip


SUBJECT = Subject(
    "Theory against simulation",
    "Simulations share no code with the predictions. Statistical rows allow for every comparison "
    "of the table (Bonferroni), the others for the error that their own approximation names.",
    (
        _claim(
            "memory-spectrum",
            "Singular values of the memory at all times",
            "theory/memory_flow; the published theorem is its long-time limit at N = 2",
            "The two singular values of the trained memory follow the flow over five decades.",
            "memory/signal singular value",
            "memory/noise singular value",
            "memory/signal value is (N-1)-fold",
            "memory/error of finite steps",
        ),
        _claim(
            "memory-decay-of-noise",
            "Truncated noise falls as the root of time",
            "theorem on the linear associative memory, N = 2; number not known",
            "At rank one p(noise) falls as t^-1/2.",
            "memory/exponent of p(noise)",
            "memory/same, predicted on this range",
            paper=RECALL,
        ),
        _claim(
            "memory-random-embeddings",
            "Random embeddings approach orthonormal ones",
            "theory/memory_corrections",
            "Logits with random embeddings deviate from the exact flow as d^-1/2.",
            "memory/d E||Z_d - Z||^2",
            "memory/exponent of rms deviation",
        ),
        _claim(
            "memory-weight-decay",
            "The memory at rest under weight decay",
            "theory/memory_decay",
            "With weight decay the memory comes to rest where two equations say.",
            "decay/",
        ),
        _claim(
            "memory-frequencies",
            "Facts by frequency",
            "theory/frequent_memory, theory/frequent_window",
            "Which facts are known, before and after the cut, follows from their frequencies.",
            "frequent/",
        ),
        _claim(
            "sequence-moments",
            "Moments of noisy sequences",
            "theory/recall_chain",
            "All first and second moments of the features of a noisy sequence are sums of powers "
            "of one matrix.",
            "chain/",
        ),
        _claim(
            "first-step",
            "The first gradient step",
            "section on one gradient step; number not known",
            "From zero weights, one step writes the predicted entries into feed-forward and value "
            "matrix and none into the keys.",
            "first step/step of F",
            "first step/step of V",
            "first step/step of W is zero",
            paper=RECALL,
        ),
        _claim(
            "margins",
            "The feed-forward learns the noise N/2 times faster",
            "section on one gradient step; number not known",
            "After one step the feed-forward's margin for the noise is N/2 times that of the "
            "values, as N grows.",
            "first step/F margin",
            "first step/V margin",
            "first step/N x ratio",
            paper=RECALL,
        ),
        _claim(
            "finite-samples",
            "Finite samples",
            "section on one gradient step from m samples; number not known",
            "With m samples the entries of the step deviate as predicted, and as m^-1/2.",
            "first step/deviation",
            "first step/exponent of the deviation",
            "first step/F: ",
            "first step/V: ",
            "first step/signal-to-noise",
            paper=RECALL,
        ),
        _claim(
            "learning-times",
            "How long each takes",
            "theory/learning_times, a heuristic of three coupled logits",
            "Half times of the noise and of attention, and their growth with N.",
            "learning/",
        ),
        _claim(
            "lazy-kernel",
            "The kernel of the Transformer at its start",
            "theory/lazy, wide layers",
            "Which matrices carry the noise in the first steps, and how fast.",
            "lazy/",
        ),
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
                Near("modes/deviation/factor", 1.0, 0.2, "measured over predicted deviation"),
                Near("modes/dip/factor", 1.0, 0.1, "measured over predicted lag of the first dip"),
                AtMost(
                    Quantity(
                        "batch32/rate0.03/momentum0.9/fair/deviation",
                        over="batch32/rate0.03/momentum0.9/drawn/deviation",
                    ),
                    0.5,
                    "less than half of it without the coin flips",
                ),
                AtMost("beyond_edge", 0, "no setting at the edge of stability"),
            ),
        ),
    ),
)
