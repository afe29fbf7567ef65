# Every target makes the environment it needs. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check types docs bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

# The environment is made anew when the list of dependencies changes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[models,dev]'
	@touch $(READY)

demo: $(READY) ## Label the arithmetic world, look at the steps, ask SQL
	$(BIN)/openr-data label
	$(BIN)/openr-data view arithmetic --errors --limit 3
	$(BIN)/openr-data sql arithmetic "select level, count(distinct question_id) as questions, \
	  count(*) as labelled_steps, round(avg(value), 2) as mean_value, \
	  count(*) filter (label = -1) as first_errors \
	  from steps where label is not null group by level order by level"

test: $(READY) ## Run all tests that need no GPU and no vLLM
	$(BIN)/python -m pytest -m 'not gpu and not vllm' $(PYTEST_OPTIONS)

check: $(READY) types ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy --strict over the hub and the leaves
	$(BIN)/mypy

docs: $(READY) ## Run every command that the README shows
	$(BIN)/python -m pytest tests/test_docs.py $(PYTEST_OPTIONS)

bench: $(READY) ## Measure label quality, grading, the store and the speed of the backend (writes benchmarks/results)
	$(BIN)/python benchmarks/label_quality.py
	$(BIN)/python benchmarks/grading.py
	$(BIN)/python benchmarks/transformers_backend.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/store_crash.py

clean: ## Remove the environment, caches and builds (never a store)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
