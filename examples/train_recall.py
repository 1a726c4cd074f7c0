"""Train the two-layer Transformer on noisy recall, in five lines.

    python examples/train_recall.py

About forty seconds on two CPU cores: the model predicts noise half of the time; without its last
feed-forward (1.mlp@0) it recalls.
"""

from truncated_weights import toy

run = toy.train(num_tokens=32, length=64, d_model=64, steps=400, interventions=("1.mlp@0",))
end = run.models.sel(set="clean").isel(step=-1).mean("seed")
for model in ("full", "1.mlp@0"):
    here = end.sel(model=model)
    print(f"{model:8s} p(correct) {here.p_correct:.2f}  p(noise) {here.p_noise:.2f}")
run.plot().savefig("recall.png")
