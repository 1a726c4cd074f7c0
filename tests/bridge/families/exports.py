"""Exported directories read by transformers: a check made once, as torch is no dependency.

    python tests/bridge/families/exports.py write DIR       here: export, and our logits
    TORCHVENV/bin/python tests/bridge/families/exports.py read DIR      with transformers

Every recorded case is cut (1.fc_out at half its rank) and exported, once with the original's
config.json and once with a fresh one. `read` prints the largest difference of logits over
the largest logit, and fails beyond 1e-5. The environment is that of record.py.
"""

import pathlib
import sys

import numpy as np


def write(root: pathlib.Path) -> None:
    """DIR/CASE/{original,fresh}/ and DIR/CASE/expected.npz."""
    from tests.bridge.families.test_goldens import CASES, checkpoint, golden
    from truncated_weights import bridge
    from truncated_weights.bridge import export, surgery
    from truncated_weights.truncation import editing

    for case in CASES:
        found = checkpoint(case)
        cut = editing.apply(found.params, "1.fc_out@0.5", surgery.matrices(found.config))
        for name, directory in (("original", found.directory), ("fresh", None)):
            one = bridge.Checkpoint(found.config, cut, directory)
            export.save(one, root / case / name, dtype="float32")
        tokens = golden(case)["none_tokens"]
        logits = np.asarray(bridge.logits(one, tokens))
        assert not np.allclose(logits, golden(case)["none_logits"], atol=1e-3)
        np.savez(root / case / "expected.npz", tokens=tokens, logits=logits)


def read(root: pathlib.Path) -> None:
    """Print and check the error of every exported directory."""
    import torch
    import transformers

    for case in sorted(root.iterdir()):
        expected = dict(np.load(case / "expected.npz"))
        for name in ("original", "fresh"):
            config = transformers.AutoConfig.from_pretrained(case / name)
            model, report = getattr(transformers, config.architectures[0]).from_pretrained(
                case / name, attn_implementation="eager", output_loading_info=True
            )
            wrong = {key: names for key, names in report.items() if names}
            assert not wrong, f"{case.name}/{name}: {wrong}"
            with torch.no_grad():
                logits = model.eval()(torch.from_numpy(expected["tokens"]).long()).logits.numpy()
            error = np.abs(logits - expected["logits"]).max() / np.abs(expected["logits"]).max()
            print(f"{case.name:15} {name:9} {error:.1e}")
            assert error < 1e-5


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]))
