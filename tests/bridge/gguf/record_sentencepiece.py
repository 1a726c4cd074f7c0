"""Record pieces, scores and ids of two small SentencePiece models: python record_sentencepiece.py

Needs the sentencepiece package, which the tests do not. The text is this repository's README.
"""

import io
import json
import pathlib
import random

import sentencepiece

HERE = pathlib.Path(__file__).parent
TEXT = (HERE.parents[2] / "README.md").read_text(encoding="utf-8").splitlines()


def main() -> None:
    """Write sentencepiece.json beside this file."""
    lines = [line for line in TEXT if line.strip()]
    random.seed(0)
    asked = [*random.sample(lines, 60), " two  spaces ", "naïve café", "日本 42", "x" * 30, "a\tb"]
    found = {}
    for name, prefix in (("with a space in front", True), ("without", False)):
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=written, vocab_size=600, model_type="bpe",
            byte_fallback=True, add_dummy_prefix=prefix, remove_extra_whitespaces=False,
            normalization_rule_name="identity", minloglevel=2,
        )  # fmt: skip
        model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
        size = range(model.get_piece_size())
        kinds = [
            2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1
            for i in size
        ]
        found[name] = {
            "prefix": prefix,
            "pieces": [model.id_to_piece(i) for i in size],
            "scores": [model.get_score(i) for i in size],
            "kinds": kinds,
            "texts": asked,
            "ids": [model.encode(text) for text in asked],
        }
    text = json.dumps(found, ensure_ascii=False)
    (HERE / "sentencepiece.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
