# The one command set, for people and for CI. `make` alone explains itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiling what is never imported would take longer than everything else.
PIP_OPTIONS := --quiet --disable-pip-version-check --no-compile
.DEFAULT_GOAL := help
.PHONY: help demo server test check bench faults rotation soak timing clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

demo: $(VENV)/installed ## Run the application on a real OpenBao and PostgreSQL, values shown
	@$(BIN)/python -m devserver -- $(BIN)/python vault_app.py --show-secrets

server: $(VENV)/installed ## Keep OpenBao and PostgreSQL running for a second terminal
	@$(BIN)/python -m devserver

test: $(VENV)/installed-test ## Run all tests on the same real servers
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not alone"
	$(BIN)/python -m pytest -m alone

check: $(VENV)/installed-check ## Lint, formatting, types, shell scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v shellcheck >/dev/null; then echo "shellcheck setup-vault.sh .ci/run"; shellcheck setup-vault.sh .ci/run; \
	else echo "shellcheck is not installed; skipped"; fi

bench: $(VENV)/installed-test ## Compare with hvac, bao agent and bao proxy; write docs/BENCHMARKS.md
	@$(BIN)/python -m benchmarks

faults: $(VENV)/installed-test ## Break everything for a minute each; write docs/RELIABILITY.md
	@$(BIN)/python -m pytest tests/faults --full --timeout=600 -q

rotation: $(VENV)/installed-test ## Load database pools while credentials rotate; write docs/ROTATION.md
	@$(BIN)/python -m benchmarks.rotation

soak: $(VENV)/installed-test ## Run for ten minutes with lifetimes of seconds; write docs/SOAK.md
	@$(BIN)/python -m tests.soak docs/SOAK.md

timing: $(VENV)/installed-test ## Reckon how long an outage is survived; write docs/TIMING.md
	@$(BIN)/python -m tests.timing

clean: ## Remove the virtual environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	@$(BIN)/pip install $(PIP_OPTIONS) -r requirements-test.txt
	@touch $@

$(VENV)/installed-check: $(VENV)/installed-test requirements-check.txt
	$(BIN)/pip install $(PIP_OPTIONS) -r requirements-check.txt
	@touch $@

# An installation that was interrupted leaves no file `installed`, and so is done again.
$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	|| { echo "Python 3.10 or newer is needed; say which: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "Installing into $(VENV) (once; a quarter of a minute if pip has the packages already) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(PIP_OPTIONS) -r requirements.txt
	@touch $@
