"""Train the two-layer Transformer on noisy recall, in five lines.

    python examples/train_recall.py

About forty seconds on two CPU cores: the model predicts noise half of the time; without its last
feed-forward (1.mlp@0) it recalls.
"""

import toy

history = toy.train(num_tokens=32, length=64, d_model=64, steps=400, interventions=("1.mlp@0",))
for name in ("full", "1.mlp@0"):
    correct, noise = (history[f"clean/{name}/p_{what}"][-1] for what in ("correct", "noise"))
    print(f"{name:8s} p(correct) {correct:.2f}  p(noise) {noise:.2f}")
history.plot().savefig("recall.png")
