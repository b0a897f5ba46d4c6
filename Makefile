# The one command set, for people and for CI. `make` alone explains itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiling what is never imported would take longer than everything else.
PIP_OPTIONS := --quiet --disable-pip-version-check --no-compile
# Where the environment forbids to keep it, each of the hundreds of processes of the tests would compile it anew.
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help
.PHONY: help demo live server gateway venv test check bench faults rotation soak timing kubernetes kubernetes-test break-glass-drill clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

# Lifetimes so short that half a minute shows a renewal, new credentials and a rotation.
demo: $(VENV)/installed-demo ## Run the application on a real OpenBao and PostgreSQL, values shown
	@TOKEN_PERIOD=$${TOKEN_PERIOD:-20s} DB_DYNAMIC_TTL=$${DB_DYNAMIC_TTL:-25s} \
	DB_ROTATION_PERIOD=$${DB_ROTATION_PERIOD:-20s} \
	$(BIN)/python -m devserver -- $(BIN)/python vault_app.py --show-secrets

live: $(VENV)/installed-live ## See it on a page: the same, with its requests and threads, and faults at a button
	@$(BIN)/python -m devserver.live

server: $(VENV)/installed-demo ## Keep OpenBao and PostgreSQL running for a second terminal
	@$(BIN)/python -m devserver

gateway: $(VENV)/installed-gateway ## Run the secrets gateway on a real OpenBao, with tenants and people to try it
	@$(BIN)/python -m gateway.demo

venv: $(VENV)/installed ## Install the application alone into .venv, for a server of your own

test: $(VENV)/installed-test ## Run all tests on the same real servers
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not alone"
	$(BIN)/python -m pytest -m alone

check: $(VENV)/installed-check ## Lint, formatting, types, shell scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v shellcheck >/dev/null; then echo "shellcheck setup-vault.sh setup/* scripts/*.sh scripts/demo-token kubernetes/vault/apply.sh .ci/run"; \
	shellcheck -x setup-vault.sh setup/* scripts/*.sh scripts/demo-token kubernetes/vault/apply.sh .ci/run; \
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

kubernetes: $(VENV)/installed-catalogue ## See whether all below kubernetes/ is what its catalogue says
	@$(BIN)/python -m catalogue check

kubernetes-test: $(VENV)/installed-test ## Log in on the Kubernetes cluster that KUBECONFIG names
	@test -n "$$KUBECONFIG" || { echo "KUBECONFIG is not set; it takes the file of a cluster to try this on" >&2; exit 1; }
	@$(BIN)/python -m pytest -m cluster -q

break-glass-drill: $(VENV)/installed-demo ## Lock out an intruder on a server of its own, and print the report
	@$(BIN)/python -m scripts.drill

clean: ## Remove the virtual environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed-demo: $(VENV)/installed requirements-demo.txt
	@$(BIN)/pip install $(PIP_OPTIONS) -r requirements-demo.txt
	@touch $@

$(VENV)/installed-live: $(VENV)/installed-demo live/requirements.txt
	@echo "Installing what the live page needs (once) …"
	@$(BIN)/pip install $(PIP_OPTIONS) -r live/requirements.txt
	@touch $@

$(VENV)/installed-gateway: $(VENV)/installed-demo gateway/requirements.txt
	@echo "Installing what the gateway needs (once) …"
	@$(BIN)/pip install $(PIP_OPTIONS) -r gateway/requirements.txt
	@touch $@

$(VENV)/installed-catalogue: $(VENV)/installed catalogue/requirements.txt
	@$(BIN)/pip install $(PIP_OPTIONS) -r catalogue/requirements.txt
	@touch $@

$(VENV)/installed-test: $(VENV)/installed-demo requirements-test.txt gateway/requirements.txt catalogue/requirements.txt
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
