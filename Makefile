# Sets up what is missing, then does what is asked: `make help` lists it. Files are targets, so a second run sets up nothing.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
# Where the machine forbids Python to keep what it has compiled, each node, command and worker of the tests would compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install
VENDORED := node/edge/web/vendor/socket.io.esm.min.js
# Processes of tests, each with whole files of them. Clusters and browsers, which are timed, are no company for what computes, and some want the
# machine for themselves. What fails in one part keeps no other from being run. What takes minutes by its nature, brokers that go under load and
# whole storms, is apart: `make test` is to be waited for.
WORKERS ?= 4
CLUSTER_WORKERS ?= 2
SOAK := tests/soak
CLUSTERS := tests/cluster tests/browser
ALONE := tests/cluster/test_expiry.py tests/cluster/test_handshake_storm.py
CODE := $(wildcard node broker loadtest tests bench deploy monitoring)
CHECKS := check-format check-lint check-types check-imports check-dependencies check-hosts check-deploy check-monitoring

.PHONY: help up test soak check $(CHECKS) fmt bench storm lock clean page dashboards

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/.run page ## a local cluster of three nodes; ARGS="--nodes 5 --haproxy" goes to tidegate up
	@exec $(BIN)/tidegate up $(ARGS)

test: .venv/.test ## every test but those of make soak; ARGS goes to pytest; ALLOW_MISSING_SERVICES=1 leaves out what this machine cannot run
	@marks="$$(scripts/test-needs)" && $(MAKE) page && \
	if [ -n "$(ARGS)" ]; then exec $(BIN)/pytest -m "$$marks" $(ARGS); fi && \
	failed=0 && by_file="--dist loadfile --no-loadscope-reorder" && \
	{ $(BIN)/pytest -n $(WORKERS) $$by_file -m "$$marks" $(CLUSTERS:%=--ignore=%) --ignore=$(SOAK) || failed=1; } && \
	{ $(BIN)/pytest -n $(CLUSTER_WORKERS) $$by_file -m "$$marks" $(CLUSTERS) $(ALONE:%=--ignore=%) || failed=1; } && \
	{ $(BIN)/pytest -m "$$marks" $(ALONE) || failed=1; } && \
	exit $$failed

soak: .venv/.test ## the tests that take minutes: brokers killed one after the other under load, a short storm of each scenario
	@marks="$$(scripts/test-needs nodejs rabbitmq)" && $(MAKE) page && \
	exec $(BIN)/pytest -n $(CLUSTER_WORKERS) --dist loadfile --no-loadscope-reorder -m "$$marks" $(or $(ARGS),$(SOAK))

check: .venv/.dev ## format, lint, types, import contracts, dependencies, deployment, rules and dashboards
	@$(MAKE) --keep-going $(CHECKS)

fmt: .venv/.dev ## formats, and repairs what the linter can
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

bench: .venv/.test ## the benchmarks, with results in bench/results; ARGS=NAME runs one of them
	@exec $(BIN)/python -m bench $(ARGS)

dashboards: .venv/.test ## writes Grafana's dashboards anew
	@$(BIN)/python -m monitoring.grafana

storm: .venv/.load ## 60 s in which all tokens end at once, on a local cluster of three nodes; ARGS="--users 500" goes to tidegate storm
	@exec $(BIN)/tidegate storm cliff --local --objectives loadtest/objectives.toml $(ARGS)

lock: .venv/bin/python ## resolves the dependencies anew; UPGRADE=1 takes the newest
	@scripts/lock

clean: ## removes what make has made; a cluster's data stays
	rm -rf .venv node_modules node/edge/web/vendor build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-format: ; @$(BIN)/ruff format --check .
check-lint: ; @$(BIN)/ruff check .
check-types: ; @$(BIN)/mypy $(CODE)
check-imports: ; @$(BIN)/lint-imports --no-logo
check-dependencies: ; @$(BIN)/deptry .
check-hosts: ; @scripts/no-hosts
check-deploy: ; @PATH="$(BIN):$$PATH" scripts/check-deploy
check-monitoring: ; @scripts/test-needs prometheus >/dev/null && $(BIN)/python -m monitoring.check

# --- what is set up -----------------------------------------------------------------------------------------------

.venv/bin/python:
	@scripts/make-venv

.venv/.run: requirements/run.txt pyproject.toml | .venv/bin/python
	@scripts/install "what a node needs (some 20 MB)" requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.load: requirements/load.txt .venv/.run
	@scripts/install "the load test (some 10 MB)" requirements/load.txt
	@touch $@

.venv/.test: requirements/test.txt .venv/.run
	@scripts/install "what the tests need (some 70 MB more)" requirements/test.txt
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.test
	@scripts/install "what the checks need (some 70 MB more)" requirements/dev.txt
	@touch $@

# npm may be missing, and may have come only a moment ago: it is looked for when it is needed.
page: ## the libraries of the page, where npm is
	@if command -v npm >/dev/null; then $(MAKE) --silent $(VENDORED); \
	elif [ ! -e $(VENDORED) ]; then echo "npm is not here, so the page has no libraries: install Node.js 18 or later with npm, then say make page"; fi

node_modules/.installed: package.json package-lock.json .npmrc
	@echo "installing the page's libraries"
	@npm ci --loglevel=error
	@touch $@

$(VENDORED): node_modules/.installed scripts/vendor.mjs
	@node scripts/vendor.mjs
