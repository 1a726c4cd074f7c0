"""Families that normalise queries and keys, or what a part of a layer adds."""
