"""Where runs side by side are computed: on which devices, and several at once or one by one.

Devices form one mesh of axes (runs, batch). Four runs on eight devices are a mesh of 4 x 2: each
run's weights live on its own two devices and nowhere else, and its batch is halved over them. On
one device its runs are done `together` at a time: all in one vectorised program, or mapped, one
after another inside the same compiled program.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

RUNS, BATCH = PartitionSpec("runs"), PartitionSpec("batch")


def mesh(devices: Sequence[jax.Device], num_runs: int) -> Mesh:
    """As many groups of devices as divide both the devices and the runs; the batch takes the rest.

    Three runs on eight devices are therefore 1 x 8: every run on all of them.
    """
    groups = math.gcd(len(devices), num_runs)
    return Mesh(np.asarray(devices).reshape(groups, -1), ("runs", "batch"))


def together_by_default(device: jax.Device, num_runs: int) -> int:
    """How many runs one device does at once: all on an accelerator, one on a CPU.

    Measured on one core, loss and gradient of the recall Transformer (d = T = 64, 32 tokens), ms:

        one run, batch 64     23      four mapped, batch 64      108
        one run, batch 256   216      four vectorised, batch 64  207

    Vectorising four runs costs what four times the batch costs: the products themselves are as
    fast (the forward passes cost the same), but the backward pass then keeps the activations of
    all runs, which leave the processor's cache. An accelerator wants the larger products.
    """
    return 1 if device.platform == "cpu" else num_runs


def over(function: Callable, layout: Mesh, num_runs: int, together: int) -> Callable:
    """function of one run as a function of all: every argument and result with a leading axis.

    A device (or group of devices that share a batch) does its own runs, `together` at a time.
    """
    groups = layout.shape["runs"]
    here = num_runs // groups
    local = _on_one_group(function, here, min(together, here))
    if groups == 1:
        return local

    def spread(*arguments: Any) -> Any:
        # The batch axis is left to the compiler, which is told where a batch is (Trainer._shard):
        # what one step's loss averages over is the whole batch, whoever holds it.
        mapped = jax.shard_map(
            local,
            mesh=layout,
            in_specs=RUNS,
            out_specs=RUNS,
            axis_names={"runs"},
            check_vma=False,
        )
        return mapped(*arguments)

    return spread


def _on_one_group(function: Callable, num_runs: int, together: int) -> Callable:
    if num_runs == 1:
        # vmap over one run would turn every matrix product into a batched one.
        def alone(*arguments: Any) -> Any:
            results = function(*jax.tree.map(lambda x: x[0], arguments))
            return jax.tree.map(lambda x: x[None], results)

        return alone
    if together >= num_runs:
        return jax.vmap(function)
    size = None if together == 1 else together
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments, batch_size=size)


def put(value: Any, layout: Mesh, spec: PartitionSpec) -> jax.Array:
    """An array of the host on the mesh, also where it has devices of other processes.

    Every process passes the same whole array and keeps the part of its own devices.
    """
    whole = np.asarray(value)
    sharding = NamedSharding(layout, spec)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
