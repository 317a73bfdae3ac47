# `make` lists the targets. Everything is installed into $(VENV); nothing else on the
# machine changes, except that root on Debian or Ubuntu gets missing system packages.

PYTHON ?= python3
VENV ?= .venv
DEV_VENV ?= .venv-dev
ARGS ?=
SECONDS ?= 60

# PYTHONSAFEPATH keeps the checkout off sys.path, so that what runs is what is installed.
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml MANIFEST.in scripts/setup.sh \
  $(shell find tunnel/ _fastpath/ -type f ! -name '*.so' ! -name '*.py[cod]')
SETUP = PYTHON='$(PYTHON)' VENV='$(VENV)' sh scripts/setup.sh
INSTALLED := PYTHONSAFEPATH=1 TUNNEL_TEST_INSTALLED=1
PYTEST = $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench bench-peers bench-micro bench-reload \
  bench-reconnect soak soak-churn fuzz debug sanitize develop clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
	  while IFS='|' read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.ready-run ## run two ends with traffic and change one under load
	@PYTHONSAFEPATH=1 $(BIN)/tunnel demo $(ARGS)

test: $(VENV)/.ready-test ## run the tests (as root: all of them)
	@$(INSTALLED) $(PYTEST) $(ARGS)

lint: $(VENV)/.ready-test ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready-test ## format the Python sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-bench ## compare with other engines on this machine (root)
	PYTHONSAFEPATH=1 $(BIN)/python bench/run.py $(ARGS)

bench-reconnect: $(VENV)/.ready-test ## ten thousand peers that come back at once (root)
	PYTHONSAFEPATH=1 $(BIN)/python bench/reconnect.py $(ARGS)

bench-peers: ## get the other engines (needs go, cargo)
	sh bench/peers.sh $(ARGS)

bench-micro: $(VENV)/.ready-test ## time single functions
	PYTHONSAFEPATH=1 $(PYTEST) --benchmark-enable --benchmark-only bench $(ARGS)

soak: $(VENV)/.ready-test ## reload and replace peers under traffic for SECONDS (root)
	PYTHONSAFEPATH=1 $(BIN)/python bench/soak.py --seconds $(SECONDS) $(ARGS)

bench-reload: $(VENV)/.ready-test ## what a change of configuration costs, against targets (root)
	PYTHONSAFEPATH=1 $(BIN)/python bench/reload.py --seconds $(SECONDS) $(ARGS)

fuzz: $(VENV)/.ready-test ## feed the parsers nonsense for SECONDS
	PYTHONSAFEPATH=1 $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(ARGS)

# A variant is unpacked below build/ and put in front of $(VENV)'s own copy.
build/%/site/.ready: $(SOURCES) $(VENV)/.ready-test
	rm -rf build/$*/site
	$(VARIANT_SWITCH)=1 $(BIN)/python -m pip --disable-pip-version-check -q install \
	  --no-build-isolation --no-deps --target build/$*/site .
	touch $@

VARIANT_TEST = PYTHONSAFEPATH=1 PYTHONPATH='$(CURDIR)/build/$@/site' \
  TUNNEL_TEST_INSTALLED='$(CURDIR)/build/$@/site' $(PYTEST) -p no:cacheprovider tests/fastpath

debug: VARIANT_SWITCH := TUNNEL_DEBUG
debug: build/debug/site/.ready ## test the packet path with asserts and line trace
	$(VARIANT_TEST) $(ARGS)

sanitize: VARIANT_SWITCH := TUNNEL_SANITIZE
sanitize: build/sanitize/site/.ready ## test the packet path under ASan and UBSan
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  $(VARIANT_TEST) $(ARGS)

soak-churn: VARIANT_SWITCH := TUNNEL_SANITIZE
soak-churn: build/sanitize/site/.ready ## replace peers amid handshakes 200,000 times, ASan
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONSAFEPATH=1 PYTHONPATH='$(CURDIR)/build/sanitize/site' \
	  $(BIN)/python bench/reload_lab/churn.py --save $(ARGS)

develop: ## an environment that imports the checkout, for working on Tunnel
	VENV='$(DEV_VENV)' PYTHON='$(PYTHON)' sh scripts/setup.sh develop

clean: ## remove the environment and everything that was built
	for venv in '$(VENV)' '$(DEV_VENV)'; do \
	  test ! -f "$$venv/pyvenv.cfg" || rm -rf "$$venv"; done
	rm -rf build dist *.egg-info
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f _fastpath/*.so

$(VENV)/.ready-run: $(SOURCES)
	@$(SETUP) run

$(VENV)/.ready-test: $(SOURCES)
	@$(SETUP) test

$(VENV)/.ready-bench: $(VENV)/.ready-test
	$(BIN)/python -m pip --disable-pip-version-check -q install 'matplotlib>=3.8'
	@touch $@
