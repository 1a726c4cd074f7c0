"""Wrong formulas of the kinds that were once put in on purpose and not noticed.

Each is one change of the source: file, what stands there (once), what stands there instead. With
`python -m tests.mutation.table --formulas` the table judges them; what it does not print is left
to the module's own tests, `python -m tests.mutation.table --formulas --tests`.
"""

from pathlib import Path

from tests.mutation.operators import Mutant

ROOT = Path(__file__).parents[2]
WRONG = (
    # A variance times 1.5; a dropped "- output"; kernel / 15 for / 18.
    ("theory/lazy.py", "np.sqrt(alpha * (1.0 - alpha) / labels)",
     "np.sqrt(1.5 * alpha * (1.0 - alpha) / labels)"),
    ("theory/lazy.py", "abs(noise - output)", "abs(noise)"),
    ("theory/lazy.py", '"1.fc_out": hidden * norm * after[1] / 18.0',
     '"1.fc_out": hidden * norm * after[1] / 15.0'),
    ("theory/lazy.py", "hidden * features / 9.0", "hidden * features / 18.0"),
    # One of nine embedding variances halved.
    ("theory/memory_corrections.py", "[2.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]",
     "[2.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 0.5]"),
    # A sign inside an asymptotic law.
    ("theory/learning_times.py", "(2.0 - alpha)) + rest) / alpha",
     "(2.0 - alpha)) - rest) / alpha"),
    ("theory/memory_decay.py", "(signal * (1.0 + 1.0 / root))", "(signal * (1.0 - 1.0 / root))"),
    ("theory/first_step.py", "alpha - (1.0 - alpha) / (num_ordinary - 1)",
     "alpha + (1.0 - alpha) / (num_ordinary - 1)"),
    ("theory/attention_step.py", "-alpha * leading / num_ordinary", "-leading / num_ordinary"),
    # A dropped u^2.
    ("theory/finite_samples.py", "labels * (1.0 - u) ** 2 + (1.0 - labels) * u**2",
     "labels * (1.0 - u) ** 2"),
    ("theory/finite_samples.py", "alpha * (1.0 - u) ** 2 + (1.0 - alpha) * u**2",
     "alpha * (1.0 - u) ** 2"),
    # A missing last pair.
    ("theory/recall_chain.py", "    start[:, :, law.trigger] += current\n", ""),
    # N for N + 1, N for N - 1.
    ("theory/memory_spectrum.py", "noise = np.sqrt(num_inputs + 1.0) * np.abs(values.noise)",
     "noise = np.sqrt(num_inputs) * np.abs(values.noise)"),
    ("theory/memory_spectrum.py", "return (num_inputs - 1) / float(",
     "return num_inputs / float("),
    # Terms and factors left out.
    ("theory/input_overlap.py", "(np.sum(law**2) + law**2) / width", "np.sum(law**2) / width"),
    ("theory/frequent_window.py", "/ (alpha * (1.0 - alpha))\n", "/ alpha\n"),
    ("theory/frequent_window.py", "+ r * (1.0 - alpha)\n", "- r * (1.0 - alpha)\n"),
    ("theory/frequent_window.py", "((1.0 - shared) * (1.0 - alpha) * frequencies)",
     "((1.0 - alpha) * frequencies)"),
    ("theory/plateau.py", "rate * (1.0 + momentum) / ((1.0 - momentum)",
     "rate / ((1.0 - momentum)"),
    ("theory/plateau.py", "share @ correlation) @ power", "0.0 * (share @ correlation)) @ power"),
    ("theory/text/shared_answers.py", "(1.0 - r) * pull + r * pull.sum", "pull + r * pull.sum"),
)  # fmt: skip


def wrong() -> list[tuple[Path, Mutant]]:
    """The list as mutants; ValueError where a formula no longer stands in its file once."""
    found = []
    for name, before, after in WRONG:
        source = (ROOT / name).read_text()
        if source.count(before) != 1:
            raise ValueError(f"{name} holds {before!r} {source.count(before)} times")
        line = source[: source.index(before)].count("\n") + 1
        changed = source.replace(before, after)
        found.append((Path(name), Mutant(line, "formula", before.strip(), after.strip(), changed)))
    return found
