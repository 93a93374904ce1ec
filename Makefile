# Two commands: `make serve` and `make test`. On a fresh Debian or Ubuntu they need python3, python3-venv and make.

PYTHON ?= python3
CONFIG ?= examples/quickstart/hangar.yaml
TESTS  ?=
BENCH  ?=

VENV    := .venv
BIN     := $(VENV)/bin
TOOLS   := .tools
SERVERS := $(TOOLS)/servers
NODE    := $(TOOLS)/node
DEMO    := $(TOOLS)/demo-repository
PIP      = -m pip install --quiet --disable-pip-version-check

# Everything below is keyed on what it was made from, so that a second run starts at once.
RUNTIME  := $(VENV)/.runtime-ready
DEV      := $(VENV)/.dev-ready
READY    := $(SERVERS)/.ready
PROJECTS := pyproject.toml enterprise/pyproject.toml src/mcp_hangar/__init__.py

# The real servers are found by name. Each recipe line is one shell: the export holds for all of them.
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/$(SERVERS)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help serve test setup lint format types contracts docs check bench bench-quick bench-gate bench-growth bench-soak wheels constraints clean
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

serve: $(RUNTIME) $(READY) $(DEMO) ## start Hangar on real servers (CONFIG=FILE for yours)
	@exec $(BIN)/hangar serve --config $(CONFIG)

test: setup ## run all tests (TESTS="tests/domain -k lifecycle" for some)
	$(BIN)/python -m pytest $(TESTS)

setup: $(DEV) $(READY) $(DEMO) node ## install everything the tests use

lint: $(DEV) ## ruff, SPDX lines, forbidden words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m scripts.check_spdx
	$(BIN)/python -m scripts.check_words

format: $(DEV) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV) ## mypy, strict
	$(BIN)/mypy

contracts: $(DEV) ## who may import whom
	$(BIN)/lint-imports --no-cache

docs: $(DEV) $(READY) $(DEMO) ## generated references are current; snippets and links hold; the site builds (.tools/site)
	$(BIN)/python scripts/generate_reference.py --check
	$(BIN)/python -m scripts.build_site
	$(BIN)/python -m scripts.check_docs

check: lint types contracts docs test ## all of the above

bench: $(RUNTIME) ## what a call costs, all peers and dimensions: about fifteen minutes (BENCH=--resume goes on)
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: $(RUNTIME) ## what a call costs, against the yardstick: under a minute
	$(BIN)/python -m benchmarks --quick

bench-gate: $(DEV) ## fails if a call has become dearer than benchmarks/recorded.json: under three minutes
	$(BIN)/python -m benchmarks.gate

bench-growth: $(RUNTIME) ## how costs grow with providers, tools, sessions, rules, payload: about eight minutes (BENCH=--quick)
	$(BIN)/python -m benchmarks.growth $(BENCH)

bench-soak: $(RUNTIME) ## churn for five minutes: does memory, descriptors or tasks grow? (BENCH=--quick: half a minute)
	$(BIN)/python -m benchmarks.soak $(BENCH)

wheels: $(DEV) ## build both distributions and try them in clean environments
	$(BIN)/python -m scripts.smoke_wheels

constraints: ## newest versions the ranges allow, with hashes (needs uv: pip install uv)
	scripts/make_constraints.sh

clean: ## remove what make made
	rm -rf $(VENV) $(TOOLS) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# --- what the commands need -----------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "MCP Hangar needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# A stamp of dev counts for runtime too: it holds the same versions and more.
$(RUNTIME): constraints/runtime.txt constraints/build.txt $(PROJECTS) | $(BIN)/python
	@echo "installing Hangar (first time: about half a minute)"
	@$(BIN)/python $(PIP) --require-hashes -r constraints/runtime.txt -r constraints/build.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e . -e enterprise
	@touch $@

$(DEV): constraints/dev.txt $(RUNTIME)
	@echo "installing what the tests and checks use"
	@$(BIN)/python $(PIP) --require-hashes -r constraints/dev.txt
	@touch $@

$(READY): constraints/servers.txt | $(BIN)/python
	@echo "installing real MCP servers into $(SERVERS)"
	@$(BIN)/python -m venv --clear $(SERVERS)
	@$(SERVERS)/bin/python $(PIP) --require-hashes -r constraints/servers.txt
	@touch $@

# The repository that the quickstart's git provider shows. Not this checkout: a tarball has no history.
$(DEMO): examples/quickstart/make_demo_repository.sh
	@sh examples/quickstart/make_demo_repository.sh $(DEMO)

.PHONY: node
node:
	@sh tests/node/install.sh $(NODE)
