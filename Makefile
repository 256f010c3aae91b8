# pm_pipeline. `make help` lists what can be made. Needs python3 >= 3.11; uses uv where it is installed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

# Bytecode is worth having: without it every new process compiles 1,600 modules again.
unexport PYTHONDONTWRITEBYTECODE

# RECORDED=folder backtests recorded markets instead of the generated ones.
ifdef RECORDED
export PYTHONPATH := $(CURDIR)
export PM_SANDBOX_WORLD := pm_pipeline_tests.recorded:load_world
export PM_RECORDED_DIR := $(abspath $(RECORDED))
endif

.DEFAULT_GOAL := help
.PHONY: help install backtest test fuzz lint ui bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

backtest: $(VENV)/.installed ## run the main job on the embedded sandbox (RECORDED=folder: on recorded markets)
	@$(BIN)/bt backtest $(ARGS)

test: $(VENV)/.test ## run the whole test suite with coverage, on all cores
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --cov $(ARGS)

fuzz: $(VENV)/.test ## the property tests again, with examples that were never drawn before
	$(BIN)/pytest -n auto -m hypothesis --hypothesis-profile=search $(ARGS)

lint: $(VENV)/.lint ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: $(VENV)/.installed ## Dagster's UI and daemon on http://127.0.0.1:3000
	@$(BIN)/bt ui $(ARGS)

bench: $(VENV)/.bench ## the measurements in benchmarks/
	$(BIN)/python -m benchmarks $(ARGS)

install: $(VENV)/.installed ## only create .venv and install the pinned dependencies

clean: ## remove the virtual environment, caches and all data of the sandboxes; live data stays
	rm -rf $(VENV) .data/sandbox .data/sandbox-* build *.egg-info .coverage*
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(call install,.)
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	@$(call install,.[test])
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	@$(call install,.[test$(comma)lint])
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@$(call install,.[bench])
	@touch $@

comma := ,

# Install the project editable with pinned dependencies, compiled to bytecode once (pip does it unasked).
define install
if command -v uv >/dev/null 2>&1; then \
  test -x $(BIN)/python || uv venv -q --python $(PYTHON) $(VENV); \
  VIRTUAL_ENV=$(abspath $(VENV)) uv pip install -q --compile-bytecode -c constraints.txt -e "$(1)"; \
else \
  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
  $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e "$(1)"; \
fi
endef
