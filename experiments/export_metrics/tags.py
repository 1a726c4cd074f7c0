"""Names of metrics as TensorBoard keeps them.

TensorBoard turns every character that is no letter, digit, `_`, `-`, `.` or `/` into `_`, so that
clean/1.mlp@0/loss and clean/1.mlp+0/loss become one curve. Here such a character is a word
between double underscores: clean/1.mlp__at__0/loss. No two names are spelled alike: what could be
taken for a word is spelled by its number.
"""

import re
import string

WORDS = {"@": "at", "+": "plus", ">": "to", ":": "colon", "<": "from", "=": "is", ",": "comma"}
KEPT = frozenset(string.ascii_letters + string.digits + "-./")


def spelled(name: str) -> str:
    """The name in characters that TensorBoard keeps; names that have no others stay as they are."""
    found = []
    for place, character in enumerate(name):
        around = name[max(place - 1, 0) : place] + name[place + 1 : place + 2]
        # A slash at the beginning is dropped, an underscore beside a word would belong to it.
        plain = character in KEPT and (place or character != "/")
        single = character == "_" and all(other in KEPT for other in around)
        found.append(character if plain or single else f"__{_word(character)}__")
    return "".join(found)


def read(tag: str) -> str:
    """The name that was spelled like this."""
    letters = {word: character for character, word in WORDS.items()}

    def letter(found: re.Match[str]) -> str:
        word = found[1]
        return letters[word] if word in letters else chr(int(word[1:], 16))

    return re.sub("__([a-z][a-z0-9]*)__", letter, tag)


def _word(character: str) -> str:
    return WORDS.get(character, f"u{ord(character):x}")
