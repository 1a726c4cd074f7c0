"""Every core of a machine without an accelerator as a device of its own.

A small run alone keeps one core busy and a second one a third of the time, because its products
are small; runs side by side on a device per core keep all of them busy.
"""

import contextlib
import os

import jax


def use_all() -> None:
    """Let JAX see one CPU device per core that this process may use.

    Nothing where the environment says how many (JAX_NUM_CPU_DEVICES), or where JAX has looked for
    devices already. Accelerators are not affected.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
