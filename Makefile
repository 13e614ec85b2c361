# make demo: the main job on the embedded benchmark.  make test: every check.  Nothing needs to be done before either:
# both install requirements.lock and rlvid into .venv, once.
SHELL := bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

# DeepSpeed is built from source; its kernels are compiled where and when they are first used.
export DS_BUILD_OPS := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test soak system audit lint lock

demo: $(READY)
	$(BIN)/rlvid grid experiments/quickstart.py --jobs 2
	$(BIN)/rlvid report runs/quickstart

# Two workers, one thread each: the suite's shape does not depend on the machine.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# What takes too long for `make test`, and its figures: sixty stops at random, 2,000 steps, 200 cells, offloaded optimisers.
soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak -s

# Known vulnerabilities of what is pinned, and of how many packages nothing is known; asks the network.
audit:
	@mkdir -p .venv && $(PYTHON) -m venv .venv/audit && .venv/audit/bin/python -m pip install --quiet pip-audit 2> /dev/null
	@.venv/audit/bin/pip-audit -r requirements.lock --no-deps --disable-pip 2>&1 > .venv/audit/found; status=$$?; \
	  grep -v "could not be audited" .venv/audit/found; \
	  echo "$$(grep -c 'could not be audited' .venv/audit/found) of $$(grep -c == requirements.lock) packages could not be audited"; \
	  exit $$status

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rlvid needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv .venv
	@echo "Installing requirements.lock into .venv (once; torch is the long wait)"
	@set -o pipefail; $(BIN)/python -m pip install -r requirements.lock \
	  | awk '/^(Collecting|Building wheel)/ { print "  " $$1, $$2; fflush() } /^Installing/ { print "  unpacking"; fflush() }'
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Keeps the lock's header and pins below it what a fresh environment resolves to today, less torch's own CUDA packages.
# torch itself moves only when TORCH does.
TORCH := 2.13.0
lock:
	set -eo pipefail; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; $(PYTHON) -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install --quiet torch==$(TORCH) 'setuptools>=77' --editable '.[dev]'; \
	"$$fresh/bin/python" -m pip freeze --all --exclude pip --exclude rlvid | grep -vE '^(nvidia|cuda|triton)' \
	  | sed -E 's/\+cpu$$//; s/^(decord==.*)/\1 ; platform_machine == "x86_64"/' > "$$fresh/pins"; \
	grep '^#' requirements.lock | cat - "$$fresh/pins" > "$$fresh/lock"; cp "$$fresh/lock" requirements.lock
