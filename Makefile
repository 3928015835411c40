# What to run in this checkout.  ci/setup makes what the targets need, outside the tree.

.DEFAULT_GOAL := help
SHELL := /bin/bash
# One recipe at a time: each of them uses all the cores there are.
.NOTPARALLEL:

SETUP := ci/setup
# More arguments, for pytest or the benchmark: make test ARGS="-k browser -x"
ARGS ?=
# From proxy_plugin, whose settings they all follow.
CODE := --config pyproject.toml . ../ci ../ci/setup ../chart ../images ../loadtests
CLUSTER := $(SETUP) venv kubernetes containers -- env PYTHONPATH=ci
BENCH := $(SETUP) venv etcd chp wrk nginx -- env PYTHONPATH=loadtests:proxy_plugin/tests python -m bench

# HUB=https://… loads a deployment, with TOKEN from the environment, which ps shows nobody; without them
# all is started here
HUB ?=
TOKEN ?=
LOADTEST = $(SETUP) venv etcd chp wrk $(if $(findstring --profile,$(ARGS)),py-spy) -- env PYTHONPATH=loadtests:proxy_plugin/tests:ci python -m scenarios

.PHONY: help setup demo test test-images test-fast conformance bench bench-quick chart-docs images wheel \
	loadtest cluster-up cluster-down e2e lint format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Set up everything the other targets need, and print the environment
	@$(SETUP)

demo: ## Run JupyterHub behind two replicas and three etcd members, with a live table
	@$(SETUP) etcd -- env PYTHONPATH=ci python -m demo

test: ## Run every test, the browser's and, as root, the images' and the cluster's included
	@python3 ci/run_tests.py $(ARGS)

test-fast: ## Run the tests that need no other program than helm
	@$(SETUP) venv helm -- bash -c 'cd proxy_plugin && exec pytest -m "not needs_programs" $(ARGS)'

test-images: ## Run the images as any user on a read-only root (as root, with runc)
	@$(SETUP) venv etcd containers images -- bash -c 'cd proxy_plugin && exec pytest -c pyproject.toml \
		--rootdir . -o pythonpath="tests ../images ../images/tests" ../images/tests $(ARGS)'

conformance: ## Run the common suite on every proxy: to build/conformance, and in short to README.md
	@$(SETUP) venv etcd chp -- bash -c 'cd proxy_plugin && pytest \
		-p jupyterhub_junction.conformance.plugin tests/conformance \
		--conformance-report ../build/conformance $(ARGS) \
		&& exec python ../ci/readme_table.py ../build/conformance/conformance.json ../README.md'

bench: ## Measure Junction and its peers side by side, in about 45 minutes (ARGS="--help")
	@$(BENCH) $(ARGS)

bench-quick: ## The same up to 1,000 routes, in under 10 minutes
	@$(BENCH) --quick $(ARGS)

ifneq ($(TOKEN),)
loadtest: export JUNCTION_LOADTEST_TOKEN = $(TOKEN)
endif
loadtest: ## Load Junction and CHP, in 5 minutes; or a hub that runs: TOKEN=… make loadtest HUB=https://… (ARGS="--help")
	@$(LOADTEST) run $(if $(HUB),--hub '$(HUB)') $(ARGS)

chart-docs: ## Write what is made for the charts: schema, tables of values, presets
	@$(SETUP) venv -- python ci/chart_docs.py chart/junction
	@$(SETUP) venv -- python ci/migration_docs.py chart

images: ## Build the images that the cluster's tests need, as root and without a registry
	@images/build $(ARGS)

wheel: ## Build the package's wheel, for the Dockerfiles in images/
	@images/build --wheel images/dist

cluster-up: ## Make a Kubernetes with three nodes on this machine (root; see ci/cluster)
	@$(CLUSTER) python -m cluster up

cluster-down: ## Take it down; nothing of it is left
	@$(CLUSTER) python -m cluster down

e2e: ## Install, upgrade and break the chart on a real Kubernetes, with real users (root, or KUBECONFIG)
	@ci/run_e2e $(ARGS)

lint: ## Check style and types
	@$(SETUP) venv -- bash -c 'cd proxy_plugin && ruff check $(CODE) && ruff format --check $(CODE) && mypy'
	@$(SETUP) venv -- bash -c 'cd ci && exec mypy --strict demo cluster e2e readme_table.py run_tests.py chart_docs.py migration_docs.py'
	@$(SETUP) venv -- bash -c 'cd images && exec mypy --strict -p builder'
	@$(SETUP) venv -- bash -c 'cd chart/tests && MYPYPATH=../../ci exec mypy --strict *.py'
	@$(SETUP) venv -- bash -c 'cd loadtests && MYPYPATH=../proxy_plugin/tests:../ci exec mypy -p bench -p scenarios'
	@command -v go >/dev/null || { echo "lint: no Go to build actionlint with: see go.dev/dl" >&2; exit 1; }
	@go -C ci/tools/actionlint tool actionlint $(CURDIR)/.github/workflows/*.yml

format: ## Put the code into the form that lint asks for
	@$(SETUP) venv -- bash -c 'cd proxy_plugin && ruff check --fix $(CODE); ruff format $(CODE)'

clean: ## Remove what the targets left in the tree (the cache is kept: see ci/setup)
	@find . -path ./.git -prune -o -type d \( -name __pycache__ -o -name .pytest_cache \
		-o -name .mypy_cache -o -name .ruff_cache -o -name .hypothesis \) -print0 | xargs -0r rm -rf
	@rm -rf build images/dist proxy_plugin/dist proxy_plugin/build
