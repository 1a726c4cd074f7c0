"""Strictness shared by all tests, set before JAX starts.

Eight virtual CPU devices let the sharding tests run anywhere; code under test
uses one device unless it is told otherwise.
"""

import jax
import matplotlib as mpl

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
mpl.use("Agg")
