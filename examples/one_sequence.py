"""One sequence of noisy in-context recall, as the model reads it.

    python examples/one_sequence.py

prints the tokens as letters and, below them, what each one is: ? a trigger, + the correct
token, which this sequence has drawn once and repeats after its triggers, ! the noise that
takes its place half of the time.
"""

import jax
import numpy as np

from truncated_weights.toy import language, recall

LETTERS = "abcdefghijklmno!"  # fifteen ordinary tokens, of which a is the trigger; ! is the noise

task = recall.make_task(language.zipf(15), alpha=0.5, length=48)
batch = recall.sample(task, jax.random.key(1), batch_size=1)
tokens, correct = np.asarray(batch.tokens[0]), int(batch.correct[0, 0])

after_trigger = np.isin(np.roll(tokens, 1), task.triggers)
after_trigger[0] = False
kinds = np.where(np.isin(tokens, task.triggers), "?", " ")
kinds = np.where(after_trigger & (tokens == correct), "+", kinds)
kinds = np.where(np.isin(tokens, task.noise), "!", kinds)

print(" ".join(LETTERS[token] for token in tokens))
print(" ".join(kinds).rstrip())
print(f"asked at every ? from the second on; the correct answer here is {LETTERS[correct]}")
