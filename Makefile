# The two commands of a fresh machine: `make quickstart` and `make test`. Both may be repeated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode that is kept spares each run of the suite, and each process that it starts, the compiling.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEBIAN := chromium chromium-driver fonts-dejavu-core munge postgresql slurm-wlm texlive-latex-base \
	texlive-latex-extra texlive-latex-recommended texlive-science
RUN_STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
SYSTEM_STAMP := $(VENV)/.installed-system
LINT_STAMP := $(VENV)/.installed-lint
DOCS_STAMP := $(VENV)/.installed-docs
BENCHMARKS := $(wildcard $(addprefix benchmarks/,start.py grid.py step.py attention.py loader.py))

.PHONY: help bench quickstart test test-without-avx test-slow test-system equivalence mutants lint format page docs clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

quickstart: $(RUN_STAMP)  ## install, train the quickstart ablation, print and write its table
	@echo "== training what is not trained yet (runs/)" >&2
	@$(BIN)/ema-lab run ablations/quickstart.yaml >/dev/null
	@echo "== the table (also below out/quickstart)" >&2
	@$(BIN)/ema-lab report reports/quickstart.yaml --out out/quickstart

test: $(TEST_STAMP)  ## install the test group and run the suite
	@echo "== the test suite" >&2
	@$(BIN)/python -m pytest -n auto --dist worksteal

test-without-avx: $(TEST_STAMP)  ## the tests whose numbers depend on the processor, as on an old one
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/python -m pytest -n auto --dist worksteal \
		tests/training tests/data tests/profiling tests/one_run tests/test_docs.py

test-slow: $(TEST_STAMP)  ## the long tests
	@$(BIN)/python -m pytest -m slow -n auto --dist worksteal

test-system: $(SYSTEM_STAMP)  ## tests that need Ray and Debian packages: Slurm, PostgreSQL, LaTeX, Chromium (needs root)
	apt-get install -y --no-install-recommends $(DEBIAN) $$(command -v npm >/dev/null || echo npm)
	@$(MAKE) --no-print-directory frontend/node_modules/.package-lock.json
	@tests/system/slurm.sh start
	@tests/system/postgresql.sh start
	@$(BIN)/python -m pytest -m system; code=$$?; \
		tests/system/postgresql.sh stop; tests/system/slurm.sh stop; exit $$code

equivalence: $(TEST_STAMP)  ## SINCE=REV: prove that changes since then change no result, and declare them
	@test -n "$(SINCE)" || { echo "write: make equivalence SINCE=REV" >&2; exit 2; }
	@$(BIN)/python tests/equivalence.py "$(SINCE)"

mutants: $(TEST_STAMP)  ## break the code in one place at a time; the tests must fail. ONLY="NAME ..." picks mutants
	@$(BIN)/python tests/mutants.py --jobs "$${JOBS:-2}" $(ONLY)

bench: $(TEST_STAMP)  ## measure starts, large grids, training steps and attention, as ratios beside a baseline
	@for name in $(BENCHMARKS); do echo "== $$name" >&2; $(BIN)/python $$name || exit 1; done

lint: $(LINT_STAMP)  ## format check, lint, strict types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(LINT_STAMP)  ## put the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

page: frontend/node_modules/.package-lock.json  ## build the report's page from frontend/ (needs node and npm)
	@cd frontend && npm run --silent build

frontend/node_modules/.package-lock.json: frontend/package-lock.json
	@command -v npm >/dev/null || { echo "the page is built by npm: install Node.js with npm" >&2; exit 2; }
	@cd frontend && npm ci --ignore-scripts --no-fund --no-audit

docs: $(DOCS_STAMP)  ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

clean:  ## remove what was installed and built; runs/ and out/ stay
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ema-lab needs Python 3.11 or newer; try: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "== making a virtual environment in $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml | $(BIN)/python
	@echo "== installing ema-lab (PyTorch is large: minutes the first time)" >&2
	@$(PIP) install --quiet --editable .
	@touch $@

$(TEST_STAMP): $(RUN_STAMP)
	@echo "== installing what the tests need" >&2
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@$(PIP) install --quiet --group test
	@touch $@

$(SYSTEM_STAMP): $(TEST_STAMP)
	@echo "== installing Ray, submitit, Selenium, psycopg and gRPC" >&2
	@$(PIP) install --quiet --group system
	@touch $@

$(LINT_STAMP): $(TEST_STAMP)
	@echo "== installing the linters" >&2
	@$(PIP) install --quiet --group lint
	@touch $@

$(DOCS_STAMP): $(TEST_STAMP)
	@echo "== installing what the documentation needs" >&2
	@$(PIP) install --quiet --group docs
	@touch $@
