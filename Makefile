# `make demo` and `make test` are all a fresh machine needs: Python >= 3.11 and a package index. Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
SEED ?= 1
MODEL ?=
TRACES ?=
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test campaign world bench clean

help:
	@echo "make demo         the whole way on the embedded world, on a CPU, offline; names the report"
	@echo "make test         lint, format, types, tests"
	@echo "make campaign     long checks: how often intervals and promises hold on simulated runs; 10,000 damaged inputs"
	@echo "make world SEED=1 trains the embedded world's models of another seed"
	@echo "make bench        measures speed against peers; prints tables"

demo: $(READY)
	$(BIN)/dalign demo $(ARGS)

# One thread a worker: the models are tiny, and many threads on few cores wait for each other.
test: export HF_HUB_OFFLINE = 1
test: export OMP_NUM_THREADS = 1
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

campaign: $(READY)
	$(BIN)/python campaign/coverage.py
	$(BIN)/python campaign/auroc_coverage.py
	$(BIN)/python campaign/abstain.py
	$(BIN)/python campaign/fuzz.py

world: $(READY)
	$(BIN)/dalign train stage=pretrain world_seed=$(SEED) $(ARGS)

bench: $(READY)
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/report.py
	$(BIN)/python bench/likelihood.py
	@if [ -z "$(MODEL)" ]; then \
	  echo "make bench MODEL=FOLDER_OR_GGUF also measures attribution and sampling, on that model"; \
	else \
	  $(BIN)/python bench/attribution.py --model "$(MODEL)" && $(BIN)/python bench/sampling.py --model "$(MODEL)"; \
	fi
	@if [ -n "$(MODEL)" ] && [ -n "$(TRACES)" ]; then \
	  $(BIN)/python bench/distill.py --model "$(MODEL)" --traces "$(TRACES)"; \
	else \
	  echo "with TRACES=RUN/traces/traces.parquet also distillation, against TRL: pip install '.[bench]' first"; \
	fi

# The build tools come from the constraints too, so nothing is resolved afresh. setuptools builds the one dependency that
# comes as source (hydra-core's antlr4 runtime), which the release that Python 3.11 brings cannot without `wheel`.
$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dalign needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1). Give another: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(READY)

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
