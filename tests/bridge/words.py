"""Tokenizers simple enough to know every id by hand."""

import re


class Words:
    """One token per word with the space before it, numbered as they come.

    Words of more than `longest` letters are two tokens.
    """

    def __init__(self, longest=99, noise=" the"):
        self.ids, self.longest = {noise: 0}, longest

    def pieces(self, text):
        for piece in re.findall(r" ?[A-Za-z0-9]+|\s|.", text):
            cut = self.longest + 1
            yield from (part for part in (piece[:cut], piece[cut:]) if part)

    def __call__(self, text):
        return [self.ids.setdefault(piece, len(self.ids)) for piece in self.pieces(text)]
