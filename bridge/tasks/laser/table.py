"""The table of LASER (Sharma, Ash, Misra, arXiv 2312.13558): accuracy and log loss.

Read from the paper's tables. Cuts are written in this project's notation; of the Llama models
the paper's fc_in is the gate of the feed-forward (its U_in), written fc_gate here.
"""

from truncated_weights.bridge.tasks.card import Published

MODELS = ("RoBERTa", "GPT-J", "Llama-2-7B")

# Accuracy (log loss) before -> after, cut, one line a model.
_TABLE = """
counterfact
17.3 5.78 19.3 5.43 8.in@0.8
13.1 5.78 24.0 5.05 27.in@0.01
35.6 3.61 37.6 3.49 28.in@0.05
hotpotqa
6.1 10.99 6.7 10.53 2.out@0.4
19.6 3.40 19.5 3.39 27.in@0.1
16.5 3.15 17.2 2.97 27.in@0.2
fever
50.0 2.5 52.3 1.76 3.in@0.4
50.2 1.24 56.2 1.27 24.in@0.01
59.3 1.02 64.5 0.91 30.in@0.2
bios_gender
87.5 0.87 93.7 1.13 9.in@0.9
70.9 3.86 97.5 4.20 14.in@0.01
75.5 3.48 88.4 2.93 24.in@0.01
bios_profession
64.5 4.91 72.5 6.44 3.in@0.9
75.6 4.64 82.1 4.91 18.in@0.01
85.0 4.19 86.7 4.05 30.out@0.4
truthfulqa
56.2 1.60 56.2 1.42 0.in@0.01
54.9 1.02 55.6 1.01 7.in@0.8
50.5 0.95 56.2 1.04 30.in@0.05
epistemic
37.1 9.39 41.8 6.80 1.out@0.4
37.1 0.74 38.3 0.62 26.in@0.01
44.8 0.78 63.4 0.73 28.out@0.01
wikidata
28.0 9.07 30.7 7.69 7.in@0.4
51.8 3.52 65.9 2.86 27.in@0.01
59.5 2.40 62.0 2.31 27.in@0.01
"""


def _cut(text: str, model: str) -> str:
    gate = "fc_gate" if model.startswith("Llama") else "fc_in"
    return text.replace(".in@", f".{gate}@").replace(".out@", ".fc_out@")


def _read() -> dict[str, tuple[Published, ...]]:
    found: dict[str, tuple[Published, ...]] = {}
    task = ""
    for line in _TABLE.strip().splitlines():
        if " " not in line:
            task, found[line] = line, ()
            continue
        *numbers, cut = line.split()
        accuracy, loss, accuracy_cut, loss_cut = map(float, numbers)
        model = MODELS[len(found[task])]
        found[task] += (Published(model, accuracy, accuracy_cut, _cut(cut, model), loss, loss_cut),)
    return found


FIGURES = _read()
"""Published figures by task: RoBERTa, GPT-J, Llama-2-7B, in this order."""
