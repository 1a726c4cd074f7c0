"""A Llama from its directory: cut one matrix, compare the two models, export the cut one.

    python examples/bridge_llama.py [DIRECTORY]

DIRECTORY holds config.json and weights as published (any family that README.md lists; no torch
needed); without one, a random Llama of 70 KB is read. Prints how the most probable next tokens
move when the up projection of the last layer keeps a tenth of its rank, and writes llama-cut/,
which this package and transformers read.
"""

import sys
from pathlib import Path

import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import export

TINY = Path(__file__).parents[1] / "tests" / "data" / "families" / "llama3"

llama = bridge.load(sys.argv[1] if len(sys.argv) > 1 else TINY)
tokens = np.array([[5, 23, 11, 42, 8, 23, 11]])
cut = bridge.cut(llama, "-1.fc_in@0.1")
before, after = (np.asarray(bridge.logits(one, tokens))[0, -1] for one in (llama, cut))
saved = export.save(cut, "llama-cut", overwrite=True)

for name, logits in (("whole", before), ("cut", after)):
    best = np.argsort(-logits)[:5]
    print(f"{name:5} " + "  ".join(f"{token}: {logits[token]:.3f}" for token in best))
for name, one in (("whole", llama), ("cut", bridge.load(saved))):
    print(f"{name:5} goes on with", *bridge.generate(one, tokens, max_new_tokens=8)[0])
