"""Tasks written down here: nothing to fetch, nothing to license."""
