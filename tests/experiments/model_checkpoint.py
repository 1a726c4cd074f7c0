"""A tiny GPT-NeoX checkpoint with a tokenizer, and prompts it can be asked."""

import json

import jax
import tokenizers

from truncated_weights import bridge
from truncated_weights.bridge import export

PROMPTS = [
    {
        "prompt": f"The {thing} of {name} is",
        "answer": f" {colour}",
        "distractors": [" the" if number % 5 else " blue", " black"],
        "kind": thing,
        "frequency": 1 / (1 + number),
    }
    for number, (thing, name, colour) in enumerate(
        (thing, name, colour)
        for thing in ("hat", "coat", "house")
        for name in ("Anna", "Mark", "Peter", "Lucy")
        for colour in ("red", "green", "white")
    )
]


def write_tokenizer(path, texts):
    """Byte-level BPE with <|endoftext|> as id 0."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([*texts, " the" * 50], trainer)
    library.save(str(path))


def write_checkpoint(folder, seed=0, scale=2.0, texts=()):
    """Two layers of width 16, sharper than at the start of training; texts: of its tokens."""
    config = bridge.Config(vocab_size=384, num_layers=2, d_model=16, num_heads=2, d_ff=32)
    params = bridge.init_params(config, key=jax.random.key(seed))
    params = jax.tree.map(lambda w: w * scale, params)
    export.save(bridge.Checkpoint(config, params), folder)
    texts = texts or [row["prompt"] + row["answer"] for row in PROMPTS] * 20
    write_tokenizer(folder / "tokenizer.json", texts)
    return folder


def write_prompts(path, rows=PROMPTS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
