"""What is measured of a model at the queries, against logits read by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.bridge import network as model
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.module import init_params
from truncated_weights.mini_pythia.corpus import Corpus
from truncated_weights.mini_pythia.measure import FIGURES, by_task, measure, tokenize_prompts
from truncated_weights.mini_pythia.measure import truth as bayes
from truncated_weights.mini_pythia.prompts import evaluation_sets
from truncated_weights.mini_pythia.tokenizer import train_tokenizer

CORPUS = Corpus(num_people=20)
TOKENIZER = train_tokenizer(CORPUS, num_documents=2000)
SETS = evaluation_sets(CORPUS, part="test", count=5)
CONFIG = Config(
    vocab_size=1536,
    num_layers=1,
    d_model=16,
    num_heads=2,
    d_ff=32,
    max_positions=64,
    rotary_fraction=0.5,
)


def measured(params):
    prompts = tokenize_prompts(SETS, TOKENIZER)
    return by_task(measure(params, CONFIG, prompts.batch, prompts.the), prompts.slices)


def test_figures_agree_with_the_logits_of_each_prompt_alone():
    params = init_params(CONFIG, key=jax.random.key(0))
    params["embed_out"]["kernel"] *= 30.0
    figures = measured(params)
    assert set(figures.task.values) == set(SETS)
    assert set(figures) == set(FIGURES)
    assert (figures.p_the.count("prompt") == [len(SETS[t]) for t in figures.task.values]).all()
    for task in ("story", "facts_rare", "product"):
        for row, prompt in enumerate(SETS[task][:2]):
            ids = jnp.array([TOKENIZER.encode(prompt["prompt"]).ids])
            logits = np.asarray(model.forward(params, CONFIG, ids), np.float64)[0, -1]
            p = np.exp(logits - logits.max())
            p /= p.sum()
            answer, giver, the = (
                TOKENIZER.encode(word).ids[0]
                for word in (prompt["answer"], prompt["distractors"][0], " the")
            )
            truth = {answer: prompt["p_answer"], the: prompt["p_the"]}
            expected = {
                "p_the": p[the],
                "p_answer": p[answer],
                "p_distractor": p[giver],
                "p_other": 1 - p[the] - p[answer],
                "accuracy": float(p.argmax() == answer),
                "kl": sum(q * np.log(q / p[token]) for token, q in truth.items() if q),
            }
            for name, value in expected.items():
                found = float(figures[name].sel(task=task)[row])
                assert found == pytest.approx(value, rel=1e-3, abs=1e-5), name
            said = bayes(SETS).sel(task=task).isel(prompt=row)
            assert float(said.p_answer) == prompt["p_answer"]


def test_the_bayes_predictor_has_no_excess_loss():
    # A model whose unembedding says the true law of one prompt, whatever it reads.
    prompts = {"story": SETS["story"][:1]}
    batch = tokenize_prompts(prompts, TOKENIZER)
    params = init_params(CONFIG, key=jax.random.key(0))
    params["final_norm"]["scale"] *= 0.0
    params["final_norm"]["bias"] = jnp.zeros(16).at[0].set(1.0)
    answer = int(batch.batch.answer[0])
    law = np.full(1536, -80.0)
    law[[answer, batch.the]] = np.log([0.6, 0.4])
    params["embed_out"]["kernel"] = jnp.zeros((16, 1536)).at[0].set(law)
    figures = by_task(measure(params, CONFIG, batch.batch, batch.the), batch.slices)
    figures = figures.sel(task="story").isel(prompt=0)
    assert figures.kl == pytest.approx(0.0, abs=1e-6)
    assert figures.p_the == pytest.approx(0.4, abs=1e-6)
    assert figures.accuracy == 1.0


def test_answers_of_several_tokens_are_refused():
    broken = [{**SETS["story"][0], "answer": " unheardof"}]
    with pytest.raises(ValueError, match=r"' unheardof' is \d tokens; expected one"):
        tokenize_prompts({"story": broken}, TOKENIZER)
