"""Strictness shared by all tests, set before JAX starts.

Eight virtual CPU devices let the sharding tests run anywhere; code under test
uses one device unless it is told otherwise.
"""

import os
from pathlib import Path

import jax
import matplotlib as mpl

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Three quarters of the suite's time is XLA compiling the same small functions again: in each
# worker, in each process that a test starts, in each run of the suite. Kept beside pytest's own
# cache they are compiled once. Everything is kept, since most of it is one operation on one shape.
COMPILED = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(
    Path(__file__).parents[1] / ".pytest_cache" / "compiled"
)
KEEP_ALL = {
    "JAX_COMPILATION_CACHE_DIR": COMPILED,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
os.environ |= KEEP_ALL  # for the processes that tests start
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
mpl.use("Agg")
