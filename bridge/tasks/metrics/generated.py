"""All marks of one generated text, by name: what a task's marking asks of it."""

from collections.abc import Sequence

from truncated_weights.bridge.tasks.example import Example, Marking
from truncated_weights.bridge.tasks.metrics import numbers, text

NAMES = {
    "contains": ("contains", "contains_published", "f1", "answer_in_prompt"),
    "number": ("number", "strict", "flexible", "concluded"),
}
"""The marks of each kind of generated answer; the first is the one that counts."""


def cut(generated: str, stop: Sequence[str]) -> str:
    """The text in front of the first of the stop strings."""
    ends = [generated.index(end) for end in stop if end in generated]
    return generated[: min(ends)] if ends else generated


def marks(example: Example, generated: str, marking: Marking) -> dict[str, float]:
    """Each mark as 0 or 1 (f1 between), of a text that is already cut.

    contains            the answer stands in the generated text
    contains_published  ... in prompt and generated text together, as LASER marks
    answer_in_prompt    the one before is 1 whatever is said
    number              the number that the solution ends in is the right one
    strict, flexible    the published matches of texts
    concluded           a conclusion was found at all, by the strict match

    Raises ValueError for a marking that generates nothing.
    """
    if marking.metric == "contains":
        return {
            "contains": float(text.contains(generated, example.answer)),
            "contains_published": float(
                text.contains_with_prompt(example.prompt, generated, example.answer)
            ),
            "f1": text.token_f1(generated, example.answer),
            "answer_in_prompt": float(text.answer_in_prompt(example.prompt, example.answer)),
        }
    if marking.metric == "number":
        found = numbers.number(generated, marking.conclusion)
        strict = numbers.strict(generated, marking.conclusion)
        flexible = numbers.flexible(generated)
        return {
            "number": float(numbers.equal_numbers(found, example.gold)),
            "strict": float(numbers.equal_texts(strict, example.gold)),
            "flexible": float(numbers.equal_texts(flexible, example.gold)),
            "concluded": float(strict is not None),
        }
    raise ValueError(f"marking {marking.metric!r} generates no text")
