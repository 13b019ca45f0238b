# One command each, with all of its set-up: "make help" lists them.
# A virtual environment in .venv is made the first time and after a change of the locked versions.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# A machine without a GPU can name PyTorch's own CPU index (see pytorch.org), for torch alone.
TORCH_INDEX ?=
# Test processes of the fast tier; Ray's tests run one after the other.
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: help install demo test fuzz test-peers test-browser test-docker test-cluster lint format benchmark clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the locked versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python: 3.11 or newer is needed, but {sys.executable} is {sys.version.split()[0]}. Name another one: make PYTHON=python3.12 ...")'
	@echo "Installing the locked versions into $(VENV), a few minutes the first time ..."
	@$(PYTHON) -m venv $(VENV)
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) --no-deps --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' constraints.txt)"; fi
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## find the best divergence and temperature for a small teacher
	$(BIN)/kd-sweep run demo

test: $(INSTALLED) ## the tests that need neither Docker, a browser nor a cluster
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not (ray or docker or cluster or browser)"
	$(BIN)/python -m pytest -q -m "ray and not (docker or cluster or browser)"

fuzz: $(INSTALLED) ## 10,000 random inputs for each border, 100,000 calls of the API; an hour
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-10000} $(BIN)/python -m pytest -q -n $(JOBS) -m hypothesis

# Liger asks for triton, which only its own kernels need.
test-peers: $(INSTALLED) ## the losses against public implementations
	@$(PIP) --no-deps --constraint constraints.txt accelerate liger-kernel psutil trl
	$(BIN)/python -c 'import liger_kernel.chunked_loss, trl.experimental.gkd'
	$(BIN)/python -m pytest -q tests/trainers/losses/test_peers.py

test-browser: $(INSTALLED) ## the report in a headless Chromium, which is installed where it can be
	tests/browser/browser.sh $(BIN)/python -m pytest -q -m browser

test-docker: $(INSTALLED) ## the tests that need a Docker engine
	$(BIN)/python -m pytest -q -m docker

test-cluster: $(INSTALLED) ## the tests on a Ray of several nodes
	$(BIN)/python -m pytest -q -m cluster

lint: $(INSTALLED) ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(INSTALLED) ## measure overheads and speed, a few minutes
	@$(PIP) --constraint constraints.txt --editable '.[benchmark]'
	for script in tests/benchmarks/*/run.py tests/benchmarks/vision/steps.py; do $(BIN)/python "$$script"; done

clean: ## remove what the commands above made in this folder
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
