"""Chat templates: messages as the text that a chat model was trained on.

The template stands in chat_template.jinja, in tokenizer_config.json, or in the metadata of a GGUF
file. It is a program from a stranger, so it runs in jinja2's sandbox and can reach nothing.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from truncated_weights.bridge import gguf
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats import strict_json
from truncated_weights.truncation.files import regular

_OWN, _CONFIG = "chat_template.jinja", "tokenizer_config.json"


def template(directory: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """The template of a directory or GGUF file, and the texts of its special tokens.

    Raises CheckpointError where there is none.
    """
    if (file := gguf.place(directory)) is not None:
        metadata = gguf.read(file).metadata
        tokens = metadata.get("tokenizer.ggml.tokens", [])
        names = {f"{kind}_token": f"tokenizer.ggml.{kind}_token_id" for kind in ("bos", "eos")}
        ids = {key: metadata.get(theirs) for key, theirs in names.items()}
        known = range(len(tokens)) if isinstance(tokens, list) else range(0)
        special = {
            key: tokens[one] for key, one in ids.items() if type(one) is int and one in known
        }
        found = metadata.get("tokenizer.chat_template")
    else:
        said = strict_json.read(directory / _CONFIG) if (directory / _CONFIG).exists() else {}
        special = {k: said[k] for k in ("bos_token", "eos_token") if isinstance(said.get(k), str)}
        found = said.get("chat_template")
        if (directory / _OWN).exists():
            found = regular.text(directory / _OWN)
    if not isinstance(found, str):
        raise CheckpointError(f"{directory}: no chat template; give the model plain texts")
    return found, special


def render(directory: pathlib.Path, messages: Sequence[Mapping[str, str]]) -> str:
    """The text of messages, each with role and content, up to where the model is to answer.

    Raises CheckpointError where there is no template or it fails, ImportError without jinja2.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    source, special = template(directory)
    inside = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    inside.globals["raise_exception"] = refuse
    try:
        return inside.from_string(source).render(
            messages=[dict(message) for message in messages], add_generation_prompt=True, **special
        )
    except (TemplateError, TypeError, ArithmeticError, LookupError) as error:
        raise CheckpointError(f"{directory}: the chat template fails ({error})") from None
