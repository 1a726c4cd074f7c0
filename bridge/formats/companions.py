"""The small files beside the weights of a checkpoint, of which its readers make a tokenizer.

Their names are many: every kind of tokenizer has its own (tokenizer.model of SentencePiece,
20B_tokenizer.json of GPT-NeoX, tekken.json of Mistral), and some readers want several. What is
not one of them (weights, config.json, a model's card) is none of this module's business.
"""

import fnmatch
import pathlib

PATTERNS = (
    # tokenizer.json, 20B_tokenizer.json, tokenizer_config.json, added_tokens.json, ...
    *("*token*.json", "tekken.json", "vocab.*", "encoder.json", "merges.txt"),
    *("tokenizer.model*", "spiece.model", "sentencepiece*.model", "*.spm", "*.tiktoken"),
    *("*.jinja", "chat_template.json", "*processor_config.json", "generation_config.json"),
)
"""Of file names, as fnmatch reads them."""


def of(directory: pathlib.Path) -> list[pathlib.Path]:
    """These files of a directory, by name; chat templates of its own folder too."""
    folders = (directory, directory / "additional_chat_templates")
    return [
        file
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file.is_file() and any(fnmatch.fnmatchcase(file.name, p) for p in PATTERNS)
    ]
