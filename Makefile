# `make` alone lists what there is. Everything runs from the checkout; nothing needs root unless a
# Debian package is missing (scripts/setup.sh says which, and why).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# From the quickest to the slowest, so that a mistake shows early; a folder not named comes last. Chaos is
# dealt out test by test (tests/conftest.py): it fills up what long files have left uneven.
TEST_ORDER := unit architecture simcloud workflows replay contract sync endpoint integration browser chaos
# Tests wait more than they compute: three processes share them even on two cores. ARGS="-n 0" for one.
WORKERS ?= 2
TEST_DIRS := $(sort $(dir $(wildcard tests/*/test_*.py tests/*/*/test_*.py tests/*/*/*/test_*.py)))
TEST_ROOTS := $(sort $(foreach dir,$(TEST_DIRS),tests/$(word 2,$(subst /, ,$(dir)))))
TESTS = $(filter $(TEST_ROOTS),$(addprefix tests/,$(TEST_ORDER))) \
  $(filter-out $(addprefix tests/,$(TEST_ORDER)),$(TEST_ROOTS))
BENCHES = $(subst _,-,$(patsubst benchmarks/%.py,bench-%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))))

.PHONY: help demo serve setup setup-test test test-web lint format bench web docs pins clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## the whole product on this machine, with a cloud in a box (Ctrl-C stops it)
	@exec $(BIN)/dumont demo $(ARGS)

serve: setup ## the same with your real clouds, from .env
	@exec $(BIN)/dumont serve $(ARGS)

# The dashboard's checks are among the tests: tests/unit/web.
test: lint ## lint, then every test, fast ones first (TESTS=tests/unit narrows it)
	@exec $(BIN)/pytest -n $(WORKERS) --dist loadfile --durations=15 $(TESTS) $(ARGS)

test-web: setup-test ## the dashboard's own checks and tests
	@if [ -f web/package.json ]; then cd web; \
	  export PATH="$(CURDIR)/.venv-node/bin:$$PATH"; npm run --silent check; npm run --silent test; fi

lint: setup-test ## ruff, mypy --strict, the one-way import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup-test ## let ruff repair what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: ## every benchmark, one after the other (BENCHES below; ARGS go to each)
	@echo "benchmarks: $(BENCHES)"
	@for bench in $(BENCHES); do $(MAKE) --no-print-directory $$bench; done

bench-%: setup-test ## one benchmark: make bench-NAME ARGS="--json FILE"
	@exec $(BIN)/python -m benchmarks.$(subst -,_,$*) $(ARGS)

web: setup ## the dashboard, when its sources changed

docs: setup ## write .env.example and docs/configuration.md from the settings
	@$(BIN)/python scripts/configuration.py

pins: setup-test ## resolve the dependencies anew and write constraints.txt
	@scripts/pins.sh

setup:
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh --test

clean: ## remove what was built; keeps .dumont, the state of your machines
	@rm -rf .venv .venv-vastai .venv-node .cache web/node_modules web/dist \
	  .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
