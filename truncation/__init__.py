"""Low-rank surgery on any matrix of any model: what to cut, where, how much."""
