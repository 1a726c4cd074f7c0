"""Write a random checkpoint of a Pythia size, or load one and print how much memory it took.

    python tests/bridge/peak_memory.py write 70m float32 DIRECTORY
    python tests/bridge/peak_memory.py load float16 DIRECTORY

`load` prints JSON: ratio, the growth of the peak resident memory of this process over the
bytes of the parameters; bytes; seconds. It is a program because the peak of a process
never falls again.
"""

import json
import pathlib
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import bridge
from bridge import families
from bridge.checkpoint import DTYPES
from bridge.families import layout
from bridge.formats import safetensors_file


def write(size, dtype, directory):
    """Random numbers of standard deviation 0.02, one tensor in memory at a time."""
    config = bridge.config_for_size(size)
    shapes = {name: rule.shape for name, rule in layout.rules(families.of(config), config).items()}
    rng = np.random.default_rng(0)
    contents = (
        (0.02 * rng.standard_normal(shape, np.float32)).astype(DTYPES[dtype])
        for shape in shapes.values()
    )
    directory.mkdir(parents=True)
    text = json.dumps(families.to_dict(config, dtype))
    (directory / "config.json").write_text(text)
    safetensors_file.write_file(directory / "model.safetensors", shapes, DTYPES[dtype], contents)


def peak():
    """Peak resident bytes of this program; getrusage's would include whoever started it."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load(dtype, directory):
    # The backend itself and the tree of shapes are not the checkpoint's.
    jnp.zeros(3).block_until_ready()
    before, start = peak(), time.monotonic()
    params = jax.block_until_ready(bridge.load(directory, dtype=dtype).params)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    ratio = (peak() - before) / size
    print(json.dumps({"ratio": ratio, "bytes": size, "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4]))
    else:
        load(sys.argv[2], pathlib.Path(sys.argv[3]))
