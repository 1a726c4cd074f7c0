"""Open a run directory and plot what is in it; cells as a notebook shows them.

    python examples/open_a_run.py
    python examples/open_a_run.py runs/noisy_recall

Without a directory it makes a small one, in seconds. Editors that know `# %%` run cell by cell.
"""

# %% A run directory: given, or made here by one of the programs.
import json
import sys
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from truncated_weights.experiments.associative_memory.__main__ import PROGRAM

if len(sys.argv) > 1:
    run = Path(sys.argv[1])
else:
    run = Path("runs/opened")
    PROGRAM.run([f"--out={run}", "--time=20", "--overwrite"])

# %% Settings, versions and commit; the final figures.
config = json.loads((run / "config.json").read_text("utf-8"))
summary = json.loads((run / "summary.json").read_text("utf-8"))
print(f"{config['program']} at commit {config['git_commit'][:10]}")
print({name: value for name, value in summary.items() if name.endswith("p_noise")})

# %% Everything that was measured: blocks of labelled arrays.
records = xr.open_datatree(run / "records.nc", engine="h5netcdf")
for name, block in records.children.items():
    print(name, dict(block.sizes), *block.data_vars)

# %% p(noise) of the full model and of every cut, mean over seeds, against the step.
p_noise = records["models" if "models" in records else "memory"].p_noise
if "set" in p_noise.dims:
    p_noise = p_noise.sel(set="clean")
canvas = Figure(figsize=(5, 3.2), layout="constrained")
axes = canvas.subplots()
p_noise.mean("seed").plot.line(ax=axes, x="step", hue="model")
axes.set(xscale="symlog", xlabel="training step", ylabel="p(noise)", title="")
canvas.savefig("opened.png", dpi=160)
print("figure: opened.png")
