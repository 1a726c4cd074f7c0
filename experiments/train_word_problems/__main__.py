"""Train a small Llama on word problems with worked steps, so that few-shot cuts can be tried.

    python -m experiments.train_word_problems
    python -m experiments.few_shot --model=runs/train_word_problems/checkpoints/step1000 \
        --problems=runs/train_word_problems/problems/test.jsonl \
        --exemplars=runs/train_word_problems/problems/exemplars.jsonl --interventions=2.fc_out@0.1

The model is Llama's shape (RMS norms, a gate, query heads in groups) at a thousandth of its size;
the problems take two steps of reckoning ("7 + 5 = 12. 12 - 4 = 8. The answer is 8."), and with
probability --alpha a solution ends in " the" instead of the number. Held out are triples of
operands, and a sequence holds nine problems, so that eight shots are nothing new. Each checkpoint
is written as Llama's are (config.json, model.safetensors, tokenizer.json), with problems and
exemplars in GSM8K's layout beside it.

The 1,000 steps take 12 minutes of one CPU core and should end near: first step right on 1.00 of
held-out problems, second on 0.88, conclusion on 0.98, with p(number) 0.67 (0.7 is best) and
p(" the") 0.32 (0.3), which is there by step 100, before any number is.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.train_mini_pythia.settings import WordProblemSettings


def study() -> Any:
    """train_mini_pythia with other documents; imported when there is work to do."""
    from truncated_weights.experiments.train_mini_pythia.measure import PROBLEMS

    return PROBLEMS


PROGRAM = Program("train_word_problems", WordProblemSettings, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
