"""What is measured of a model at the queries, against logits read by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridge import network as model
from bridge.config import Config
from bridge.module import init_params
from mini_pythia.corpus import Corpus
from mini_pythia.measure import FIGURES, by_task, half_time, measure, tokenize_prompts
from mini_pythia.prompts import evaluation_sets
from mini_pythia.tokenizer import train_tokenizer

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
    assert set(figures) == set(SETS)
    for task in ("story", "facts_rare", "product"):
        assert set(figures[task]) == set(FIGURES)
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
                assert figures[task][name][row] == pytest.approx(value, rel=1e-3, abs=1e-5), name


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
    figures = by_task(measure(params, CONFIG, batch.batch, batch.the), batch.slices)["story"]
    assert figures["kl"][0] == pytest.approx(0.0, abs=1e-6)
    assert figures["p_the"][0] == pytest.approx(0.4, abs=1e-6)
    assert figures["accuracy"][0] == 1.0


def test_answers_of_several_tokens_are_refused():
    broken = [{**SETS["story"][0], "answer": " unheardof"}]
    with pytest.raises(ValueError, match=r"' unheardof' is \d tokens; expected one"):
        tokenize_prompts({"story": broken}, TOKENIZER)


def test_half_time_interpolates_the_first_crossing():
    steps = np.array([0, 10, 20, 30])
    assert half_time(steps, np.array([0.0, 0.2, 0.6, 0.8])) == pytest.approx(15.0)
    assert half_time(steps, np.array([0.0, 0.9, 0.1, 0.8])) == pytest.approx(10 * 0.4 / 0.9)
    assert half_time(steps, np.array([0.7, 0.9, 0.1, 0.8])) == 0.0
    assert np.isnan(half_time(steps, np.zeros(4)))
