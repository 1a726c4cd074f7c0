"""Open a run directory and plot what is in it; cells as a notebook shows them.

    python examples/open_a_run.py
    python examples/open_a_run.py runs/noisy_recall

Without a directory it makes a small one, in seconds. Editors that know `# %%` run cell by cell.
"""

# %% A run directory: given, or made here by one of the programs.
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.associative_memory.__main__ import PROGRAM

if len(sys.argv) > 1:
    run = Path(sys.argv[1])
else:
    run = Path("runs/opened")
    PROGRAM.run([f"--out={run}", "--time=20", "--overwrite"])

# %% Settings, versions and commit; the final figures; every array.
config = json.loads((run / "config.json").read_text("utf-8"))
summary = json.loads((run / "summary.json").read_text("utf-8"))
with np.load(run / "trajectory.npz") as file:
    arrays = dict(file)
print(f"{config['program']} at commit {config['git_commit'][:10]}, {len(arrays)} arrays")
print({name: value for name, value in summary.items() if name.endswith("p_noise")})

# %% p(noise) of the full model and of every cut, mean over seeds, against the step.
curves = {name: values for name, values in arrays.items() if name.endswith("/p_noise")}
canvas = Figure(figsize=(5, 3.2), layout="constrained")
axes = canvas.subplots()
for name, values in curves.items():
    steps = arrays.get(f"{name.split('/')[0]}/steps", arrays.get("steps"))
    if steps is not None and len(steps) == len(values):
        axes.plot(steps, values.reshape(len(steps), -1).mean(axis=1), label=name)
axes.set_xscale("symlog")
axes.set_xlabel("training step")
axes.set_ylabel("p(noise)")
axes.legend(fontsize=7)
canvas.savefig("opened.png", dpi=160)
print("figure: opened.png")
