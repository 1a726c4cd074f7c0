"""Language models whose weights the user has: one row of each claim for every model."""

from truncated_weights.experiments.run.claim import RECALL, AtLeast, AtMost, Claim, Key, Subject


def _late_cut(task: str, name: str, title: str) -> Claim:
    return Claim(
        name,
        title,
        paper=RECALL,
        where="truncating late MLP input matrices of Pythia",
        statement="Truncating the last feed-forward's input matrix to a tenth of its rank lowers "
        'p(" the") and raises p(answer).',
        run="model",
        checks=(
            AtMost(Key(f"{task}/test/-1.fc_in@0.1/p_the_change"), 0.0, "lowers", clear=True),
            AtLeast(Key(f"{task}/test/-1.fc_in@0.1/p_answer_change"), 0.0, "raises", clear=True),
        ),
    )


SUBJECT = Subject(
    "Language models from their weights",
    "Give directories with --models=DIR,... (GPT-NeoX, GPT-J, GPT-2, Llama, Mistral, Qwen2, Phi, "
    "Phi-3, RoBERTa); without them nothing is guessed.",
    (
        _late_cut("indirect_object", "model-indirect-object", "Indirect objects"),
        _late_cut("country_facts", "model-facts", "Facts about countries"),
    ),
)
