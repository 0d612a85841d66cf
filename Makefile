# Needs make and Python 3.10 or newer with its venv module; every target makes or reuses $(VENV).
PYTHON ?= python3
VENV ?= .venv
# More for pytest, e.g. `make test ARGS="tests/embedded -x"`; coverage is then not required. Likewise
# for the comparison, `make bench-peers ARGS="--scale 0.1"`, and the faults, `make soak ARGS="--only kills"`.
ARGS ?=

.DELETE_ON_ERROR:

PY := $(VENV)/bin/python
PIP := PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip
COVERAGE := --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

# In a copied or moved checkout the scripts in .venv still point at the old place: make it anew.
ifneq ($(wildcard $(VENV)/.made-in),)
ifneq ($(shell cat $(VENV)/.made-in),$(CURDIR))
$(shell rm -rf $(VENV))
endif
endif

.PHONY: help
help:
	@echo "make demo    run the demo"
	@echo "make test    run the tests, with coverage"
	@echo "make test-pooler  run those of clients, workers and SQL through PgBouncer"
	@echo "make check   lint, format check, types, import layers, spelling"
	@echo "make format  format the code and fix what ruff can fix"
	@echo "make bench   measure claim throughput"
	@echo "make bench-growth  measure what must not grow with depth, queues, kinds and time"
	@echo "make bench-pages  measure lists and counts among millions of jobs"
	@echo "make bench-held  measure a worker while somebody holds an old snapshot"
	@echo "make bench-peers  measure pgqueue beside other queues, which it installs"
	@echo "make soak    inject faults by the thousand, and account for every job"
	@echo "make docs    build the documentation into site/"
	@echo "make venv    make $(VENV) with everything for development"
	@echo "make clean   remove $(VENV) and everything that was built"

.PHONY: demo
demo: $(VENV)/.demo
	$(PY) -m pgqueue demo

.PHONY: test
test: $(VENV)/.dev
	$(PY) -m pytest -n 2 $(if $(ARGS),$(ARGS),$(COVERAGE))

.PHONY: test-pooler
test-pooler: $(VENV)/.dev
	$(PY) -m pytest -n 2 --pooler $(if $(ARGS),$(ARGS),tests/client tests/worker tests/sql)

.PHONY: check
check: $(VENV)/.dev
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/codespell

.PHONY: format
format: $(VENV)/.dev
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

.PHONY: bench
bench: $(VENV)/.bench
	$(PY) benchmarks/claim_throughput.py

.PHONY: bench-growth
bench-growth: $(VENV)/.bench
	$(PY) -m benchmarks.growth $(ARGS)

.PHONY: bench-pages
bench-pages: $(VENV)/.bench
	$(PY) -m benchmarks.pages $(ARGS)

.PHONY: bench-held
bench-held: $(VENV)/.bench
	$(PY) -m benchmarks.held $(ARGS)

.PHONY: bench-peers
bench-peers: $(VENV)/.bench
	$(PY) -m benchmarks.peers $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev
	$(PY) -m tests.faults $(if $(ARGS),$(ARGS),--json soak.json)

.PHONY: docs
docs: $(VENV)/.docs
	$(PY) -m mkdocs build --strict

.PHONY: venv
venv: $(VENV)/.dev

.PHONY: clean
clean:
	rm -rf $(VENV) .bench-peers soak.json build dist site htmlcov .coverage .coverage.* .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts -name __pycache__ -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit("pgqueue needs Python 3.10 or newer, not " \
	  + sys.version.split()[0] + "; name one: make PYTHON=python3.12" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	@echo $(CURDIR) > $(VENV)/.made-in

# One stamp for each set of extras; all of them go stale when pyproject.toml changes.
$(VENV)/.demo: EXTRAS = embedded,cli
$(VENV)/.bench: EXTRAS = embedded,bench,uvloop
$(VENV)/.docs: EXTRAS = docs
$(VENV)/.dev: EXTRAS = all,dev
$(VENV)/.demo $(VENV)/.bench $(VENV)/.docs $(VENV)/.dev: pyproject.toml | $(PY)
	@echo 'Installing pgqueue with its extras $(EXTRAS) into $(VENV)'
	@$(PIP) install --quiet --editable '.[$(EXTRAS)]'
	@touch $@
# The development set holds those of the demo and the benchmarks.
	@test $(notdir $@) != .dev || touch $(VENV)/.demo $(VENV)/.bench
