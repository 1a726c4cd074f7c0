"""Write a random checkpoint of a Pythia size, or load one and print how much memory it took.

    python tests/bridge/formats/peak_memory.py write 70m float32 DIRECTORY
    python tests/bridge/formats/peak_memory.py write phi3 float32 DIRECTORY
    python tests/bridge/formats/peak_memory.py load float16 DIRECTORY

A size is Pythia's, or the name of a model in tests/data/families, enlarged to some 130 MB.
`load` prints JSON: ratio, the growth of the peak resident memory of this process over the
bytes of the parameters; forward, the same after the logits of a text of 32 tokens; bytes;
seconds. It is a program because the peak of a process never falls again.
"""

import dataclasses
import json
import pathlib
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import families
from truncated_weights.bridge.checkpoint import DTYPES
from truncated_weights.bridge.families import layout
from truncated_weights.bridge.formats import safetensors_file

FAMILIES = pathlib.Path(__file__).parents[2] / "data" / "families"


def architecture(size):
    """Some thirty million parameters, none of whose tensors is most of them."""
    if size in bridge.SIZES:
        return bridge.config_for_size(size)
    small = families.read(FAMILIES / size / "config.json")
    windows = small.windows[:1] if len(small.windows) == 1 else ()
    return dataclasses.replace(
        small, vocab_size=8192, num_layers=8, d_model=512, d_ff=2048, head_size=None,
        windows=windows, max_positions=64,
    )  # fmt: skip


def write(size, dtype, directory):
    """Random numbers of standard deviation 0.02, one tensor in memory at a time."""
    config = architecture(size)
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
    found = bridge.load(directory, dtype=dtype)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(jax.block_until_ready(found.params)))
    ratio, seconds = (peak() - before) / size, time.monotonic() - start
    bridge.logits(found, np.ones((1, 32), np.int32)).block_until_ready()
    forward = (peak() - before) / size
    print(json.dumps({"ratio": ratio, "forward": forward, "bytes": size, "seconds": seconds}))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4]))
    else:
        load(sys.argv[2], pathlib.Path(sys.argv[3]))
