# `make demo` shows what it does, `make test` checks it in minutes, `make test-all` in full.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

# two processes of tests, each of one thread, as suits two cores; tests of one file share what they make
TWO := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=2 --dist=worksteal

# a screen in memory for the tests of the window, where we may install one; without it they are skipped
SCREEN := command -v xvfb-run >/dev/null || ! command -v apt-get >/dev/null || test $$(id -u) != 0 || \
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	xvfb xauth libxcb-icccm4 libxcb-keysyms1 >/dev/null; } || echo "No screen: tests of the window are skipped"

.PHONY: help demo web test test-all fuzz lint format docs links clean
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
	@$(SCREEN)
	@touch $@

$(VENV)/smp/installed: $(VENV)/installed-dev tests/smp.lock
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/smp --requirement tests/smp.lock
	@touch $@

# what the page is made of; without npm it isn't made, and tests that need it are skipped
PACKAGES := web/node_modules/.package-lock.json
SITE := src/cleft/web/site/models/models.json
PAGE := $(if $(shell command -v npm),$(SITE))

$(PACKAGES): web/package-lock.json web/.npmrc
	cd web && npm ci --silent --ignore-scripts
	@touch $@

$(SITE): $(VENV)/installed-dev $(PACKAGES) $(shell find web/src -type f) web/build.mjs web/pack.py \
  src/cleft/export/portable.py $(wildcard src/cleft/models/shipped/*)
	@echo "Making the page for browsers (2 minutes)"
	cd web && npm run --silent build
	$(BIN)/python web/pack.py

web: $(SITE)  ## make the page that `cleft web` serves (needs node and npm)

# a browser to test the page in, from Debian's packages where they are and we may
$(VENV)/browser: $(VENV)/installed-dev
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] \
	  && apt-get update -qq && apt-get install -qq chromium >/dev/null; } \
	  || echo "No Chromium: tests of the page in a browser are skipped"
	@touch $@

demo: $(VENV)/installed  ## make the environment, then segment and score made cells in 2D and 3D (under 2 minutes after installation)
	$(BIN)/cleft demo --output demo

test: lint $(PAGE) $(VENV)/browser  ## lint, types, import floors, bandit, then every test but the long ones (7 to 14 minutes on two cores)
	$(TWO)

test-all: lint $(PAGE) $(VENV)/browser $(VENV)/smp/installed  ## all of that and the long tests: studies, kills, large volumes, damage in masses (some 25 minutes on two cores)
	$(TWO) -m "" --hypothesis-profile=large --cov=cleft --cov-report=term:skip-covered

lint: $(VENV)/installed-dev $(if $(PAGE),$(PACKAGES))  ## lint, types, import floors and bandit alone (half a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r src
	$(if $(PAGE),cd web && npm run --silent lint,@echo "No npm: the sources of the page aren't linted")

fuzz: $(VENV)/installed-dev  ## 10,000 damaged files of every format, and model files (10 minutes on one core)
	$(BIN)/python tests/fuzz/run.py --count 10000

docs: $(VENV)/installed-dev $(PAGE)  ## the site, into docs/_build/html: its tutorials run, warnings are errors (some minutes)
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

links: $(VENV)/installed-dev  ## whether addresses of other sites still lead somewhere (asks them; before a release)
	CLEFT_DOCS_RUN=0 $(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links

format: $(VENV)/installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and what the commands made
	rm -rf $(VENV) demo runs dist docs/_build web/node_modules web/build src/cleft/web/site .pytest_cache .mypy_cache .ruff_cache
