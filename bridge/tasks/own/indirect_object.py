"""Indirect-object identification: who receives the gift?

    "After Anna and Mark had finished at the station, Mark handed a ring to" -> " Anna"

The giver's name comes twice, the receiver's once; the answer is the receiver, the first
distractor the giver. The task is that of Wang et al. (arXiv 2211.00593); the templates and
lists are our own. After "to", English often goes on with " the", which is the noise here.
"""

import random

from truncated_weights.bridge.tasks.example import (
    Encode,
    Example,
    Task,
    TaskError,
    single_tokens,
    words,
)

TEMPLATES = (
    "After {first} and {second} had finished at the {place}, {giver} handed a {thing} to",
    "When {first} and {second} met again near the {place}, {giver} gave a {thing} to",
    "While {first} and {second} were waiting outside the {place}, {giver} passed a {thing} to",
    "Last week {first} and {second} went to the {place}, and {giver} offered a {thing} to",
    "Because {first} and {second} liked the {place}, they stayed until {giver} sold a {thing} to",
    "{first} and {second} had a long talk at the {place}. Afterwards {giver} sent a {thing} to",
    "Yesterday {first} and {second} walked past the {place}. Then {giver} brought a {thing} to",
    "{first} and {second} work at the {place}. On Monday {giver} lent a {thing} to",
    "Before {first} and {second} left the {place}, {giver} decided to give a {thing} to",
    "At the {place}, {first} and {second} argued for an hour, but {giver} showed a {thing} to",
    "It was raining when {first} and {second} reached the {place}, so {giver} threw a {thing} to",
    "The day {first} and {second} visited the {place}, {giver} wanted to give a {thing} to",
)
NAMES = words(
    """
    Anna Mark Paul Sarah John Mary Peter Lucy David Emma Thomas Laura Simon Alice Martin Julia
    James Kate Robert Helen Daniel Maria George Rose Henry Clara Adam Grace Oscar Jane Victor
    Ruth Frank Diana Arthur Susan Leo Nancy Max Linda Jack Karen Tom Amy Ben Lisa Sam Rachel
    Alex Emily Michael Anne Andrew Jennifer Chris Jessica Kevin Elizabeth Brian Rebecca Steven
    Nicole Eric Sophia Edward Hannah William Charlotte Charles Olivia Richard Victoria Joseph
    Katherine Patrick Megan Matthew Amanda Ryan Claire Luke Eva Joe Ellen Bill Kim Steve Marie
    Tony Sally Louis Carol Fred Alan Roger Philip Stephen Walter Albert Harry Bob Dan
    """
)
PLACES = words(
    """
    station market library park school theatre museum bakery harbor garden church castle
    hospital hotel beach farm bridge workshop office zoo
    """
)
THINGS = words(
    """
    ring basket book letter lamp kite bottle coat drum candle ticket map watch chair flute
    blanket key hammer pencil cake
    """
)


def load(encode: Encode, *, count: int = 256, seed: int = 0) -> Task:
    """`count` different prompts, every second with the giver named first.

    Templates are used equally often. Names that are not one token after a space are left
    out and reported. Raises TaskError where fewer than two names remain.
    """
    names, dropped = single_tokens(NAMES, encode, what="names")
    if len(names) < 2:
        raise TaskError("indirect_object: the tokenizer has fewer than two of the names as tokens")
    largest = 2 * len(TEMPLATES) * len(names) * (len(names) - 1) // 2
    if count > largest:
        raise TaskError(f"indirect_object: {count} examples asked for, at most {largest} differ")
    rng = random.Random(f"indirect_object/{seed}")
    examples: dict[str, Example] = {}
    # A prompt drawn twice is drawn again in its own turn, so the balance is exact.
    while len(examples) < count:
        turn = len(examples)
        number = turn // 2 % len(TEMPLATES)
        receiver, giver = rng.sample(names, 2)
        first, second = (giver, receiver) if turn % 2 else (receiver, giver)
        prompt = TEMPLATES[number].format(
            first=first,
            second=second,
            giver=giver,
            place=rng.choice(PLACES),
            thing=rng.choice(THINGS),
        )
        order = "giver_first" if turn % 2 else "receiver_first"
        covariates = {"giver_first": float(turn % 2), "template": float(number)}
        examples.setdefault(
            prompt, Example(prompt, f" {receiver}", (f" {giver}",), order, covariates)
        )
    return Task("indirect_object", tuple(examples.values()), dropped)
