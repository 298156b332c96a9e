# `make demo` and `make test` set up what they need; both run as root on Debian 12.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))) python3)
export PATH := $(CURDIR)/$(VENV)/bin:$(CURDIR)/.tools/bin:$(PATH):/usr/sbin:/sbin
ARGS ?=
JOBS ?= 3

.PHONY: help setup setup-run demo test test-differential test-options test-programs test-unit fsck-damage fuzz lab lint bench bench-build bench-images bench-assemble parity catalogue-proof clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(VENV)/.run: pyproject.toml scripts/host-packages.sh scripts/forky.sh
	PYTHON=$(PYTHON) scripts/host-packages.sh --for run
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: pyproject.toml scripts/host-packages.sh scripts/forky.sh
	PYTHON=$(PYTHON) scripts/host-packages.sh --for test
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $(VENV)/.run $@

setup: $(VENV)/.dev ## Install host packages and the virtual environment, with all that development needs

setup-run: $(VENV)/.run ## The same for running Tare only

demo: setup-run ## Build, weigh and run the three-tier example (ARGS=--keep leaves it running)
	@$(VENV)/bin/python examples/three-tier/demo.py $(ARGS)

test: setup ## Run all tests (ARGS=tests/unit selects some, JOBS=3 are run at a time)
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-differential: setup ## Compare builds with a real Docker's, case by case (ARGS=--record writes its results)
	$(VENV)/bin/python tests/differential/run.py $(ARGS)

test-options: setup ## Compare what options of run do with a real Docker's, case by case (ARGS=--record writes its results)
	$(VENV)/bin/python tests/differential/options/run_options.py $(ARGS)

parity: setup ## Compare the resolver with apt-get on packages chosen at random (ARGS="200 1": how many, and the seed)
	$(VENV)/bin/python tests/differential/apt/parity.py $(ARGS)

catalogue-proof: setup ## Assemble the whole catalogue on two engines; compare, weigh, audit, validate SBOMs (ARGS=names)
	$(VENV)/bin/python tests/differential/catalogue_proof.py $(ARGS)

transfer-storm: setup ## Kill engine, registry or network at random moments of pulls and pushes (ARGS="100 7": rounds, seed)
	$(VENV)/bin/python tests/transfer_storm.py $(ARGS)

lab: setup ## Try who reaches whom in network namespaces (ARGS=--record records a real Docker's outcomes first)
	$(VENV)/bin/python tests/lab/report.py $(ARGS)

test-programs: setup ## Build and run a real program on every image of the catalogue (takes minutes)
	$(VENV)/bin/python -m pytest tests/programs/catalogue.py --durations=0 $(ARGS)

test-unit: setup ## Run the tests that need neither root nor the network
	$(VENV)/bin/python -m pytest tests/unit tests/architecture $(ARGS)

fuzz: setup ## Tar layers that lie, by other examples each time (ARGS=20000: how many for each test)
	TARE_FUZZ=$(or $(ARGS),20000) $(VENV)/bin/python -m pytest tests/fuzz/test_fuzz_layers.py --timeout 7200

fsck-damage: setup ## Damage a store at random and repair it, by other examples each time (ARGS=2000: how many)
	TARE_FSCK_EXAMPLES=$(or $(ARGS),2000) $(VENV)/bin/python -m pytest tests/unit/store/test_store_fsck_random.py --timeout 7200

lint: setup ## Check style, types and import directions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: setup ## Compare containers with another engine's (ARGS="tare=unix://… docker=unix://…")
	$(VENV)/bin/python bench/containers.py $(ARGS)

bench-build: setup ## Compare builds with Docker's (ARGS="tare=unix://… docker=unix://…")
	$(VENV)/bin/python bench/build.py $(ARGS)

bench-images: setup ## Compare load, save, push, pull and rm with Docker's (ARGS="tare=unix://… docker=unix://…")
	$(VENV)/bin/python bench/images.py $(ARGS)

bench-assemble: setup ## Assemble each image of the catalogue with a warm cache (ARGS="--rounds 9" or names of images)
	$(VENV)/bin/python bench/assemble.py $(ARGS)

clean: ## Remove what make made (images of the demo: examples/three-tier/demo.py --fresh)
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
