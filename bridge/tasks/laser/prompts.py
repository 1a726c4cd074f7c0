"""Pieces that several of the prompts share."""


def stopped(text: str, stops: str, missing: str) -> str:
    """The text without space around it, and with `missing` where none of `stops` ends it."""
    bare = text.strip()
    return bare if bare.endswith(tuple(stops)) else bare + missing


FULL_STOP_MISSING = (".?", ".")
"""Arguments of stopped() for claims and biographies: a question mark ends them too."""

TRUE_FALSE = (" true", " false")
YES_NO = (" Yes", " No")
