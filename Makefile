# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test fuzz lint format clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/installed: requirements.lock pyproject.toml
	@echo "Making the environment in $(VENV) (2 to 5 minutes, about 2 GB)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	@echo "Installing what the tests need"
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.lock
	@touch $@

demo: $(VENV)/installed  ## make the environment, then segment and score made cells in 2D and 3D (under 2 minutes after installation)
	$(BIN)/cleft demo --output demo

test: $(VENV)/installed-dev  ## lint, types, import floors, bandit, every test (some 20 minutes on two cores)
	@echo "Lint, types, import floors, then the tests: some 20 minutes on two cores"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r src
	$(BIN)/pytest --cov=cleft --cov-report=term:skip-covered

lint: $(VENV)/installed-dev  ## lint, types, import floors and bandit alone
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r src

fuzz: $(VENV)/installed-dev  ## 10,000 damaged files of every format, and model files (10 minutes on one core)
	$(BIN)/python tests/fuzz/run.py --count 10000

format: $(VENV)/installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and what the commands made
	rm -rf $(VENV) demo runs dist .pytest_cache .mypy_cache .ruff_cache
