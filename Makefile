# Everything a newcomer needs. `make demo` and `make test` set themselves up: Python >= 3.11 and pip are enough.
# Chatter of the set-up goes to stderr, so that the last line of `make demo` on stdout is its JSON result.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo quick test fuzz check docs kills bench foundation openrlhf clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## make .venv with everything pinned in constraints.txt (done by the others on demand)

demo: $(READY)  ## the whole idea on two cores, in about five minutes (ARGS="--quick": one minute)
	@$(BIN)/gram demo --output runs/demo $(ARGS)

quick: $(READY)  ## the laws of CONTRIBUTING.md on tiny models (a minute)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m law $$(grep -l 'mark\.law(' tests/test_*.py) $(ARGS)

# Without the base (no network) the tests that need it are skipped, and say so.
test: $(READY)  ## run the tests (ARGS="-k name": some of them), and name the slow ones
	@$(BIN)/gram fetch smollm2-135m >&2 || true
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations=20 --durations-min=10 $(ARGS)

kills: $(READY)  ## kill every command that writes 300 times and more, and go on: nothing lost, doubled or left (15 minutes)
	@PYTHONPATH=. HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.kills $(ARGS)

fuzz: $(READY)  ## the tests of odd input with 5,000 rows per family instead of 200 (about four minutes of one core)
	@OMP_NUM_THREADS=1 GRAM_FUZZ=5000 $(BIN)/python -m pytest -n 2 tests/fuzz $(ARGS)

check: $(READY)  ## lint, format, types, architecture
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/python -m pytest tests/test_architecture.py

docs: $(READY)  ## build the docs site and check its links: build/site/index.html (half a minute)
	@$(BIN)/python docs/website.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(READY)  ## time scoring and training beside their peers, on one thread (ARGS="--data FOLDER": on real answers)
	@$(BIN)/gram bench score $(ARGS)
	@$(BIN)/gram bench train $(ARGS)

openrlhf: $(READY) .venv-openrlhf/.ready  ## our reward called by OpenRLHF's own client, in an environment of its own
	@GRAM_OPENRLHF_PYTHON=$(CURDIR)/.venv-openrlhf/bin/python $(BIN)/python -m pytest -rA \
		tests/test_rl_openrlhf_client.py $(ARGS)

# OpenRLHF without its requirements: deepspeed, flash-attn, ray and vllm need a GPU, its client does not.
.venv-openrlhf/.ready:
	@$(PYTHON) -m venv .venv-openrlhf >&2
	@.venv-openrlhf/bin/python -m pip install --disable-pip-version-check torch==2.13.0 transformers==5.15.0 \
		accelerate peft psutil aiohttp sympy pylatexenc >&2
	@.venv-openrlhf/bin/python -m pip install --disable-pip-version-check --no-deps openrlhf==0.11.2 >&2
	@touch $@

# Each step goes on where it was stopped. DEVICE=cuda: minutes instead of hours.
foundation: runs/gram-135m/shipped/gram.json  ## train gram-135m on data/, and write the folder to ship (hours on two cores)

DEVICE ?=
ON_DEVICE := $(if $(DEVICE),--device $(DEVICE))
GRAM_135M := $(BIN)/gram train --config configs/gram-135m

runs/gram-135m/stage_1/gram.json: | $(READY)
	@$(BIN)/gram fetch smollm2-135m
	@$(GRAM_135M)/1-pretrain.yaml $(ON_DEVICE)

runs/gram-135m/easy/gram.json: | runs/gram-135m/stage_1/gram.json
	@$(BIN)/python -m experiments.foundation.lessons
	@$(GRAM_135M)/2-easy.yaml $(ON_DEVICE)

runs/gram-135m/judge_easy/gram.json: | runs/gram-135m/easy/gram.json
	@$(GRAM_135M)/3-finetune.yaml $(ON_DEVICE)

runs/gram-135m/shipped/gram.json: | runs/gram-135m/judge_easy/gram.json
	@$(BIN)/gram eval --model runs/gram-135m/judge_easy --calibrate data/held_back.jsonl.gz \
		$(ON_DEVICE) --output runs/gram-135m/calibration
	@$(BIN)/python -m experiments.foundation.ship

clean:  ## remove caches and build products; .venv and runs/ stay
	@rm -rf build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
	@find src tests experiments -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# One pip command on purpose: torch is chosen once, with all that needs it.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'gram needs Python 3.11 or newer; say which one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@echo 'Setting up $(VENV), once; it will hold about 2.8 GB, several more with a CUDA build of torch.' >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch==2.13.0 -e '.[dev]' >&2
	@touch $@
