"""What the mathematics predicts; nothing here is simulated.

All functions are NumPy float64: no result depends on the caller's JAX settings.
"""
