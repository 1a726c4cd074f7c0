"""A small GPT-NeoX language model of our own, trained on English with planted noise."""
