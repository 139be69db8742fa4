# Every target does its own set-up; two commands are enough for a new clone: `make demo` and `make test`.
#
# The extension is built in two profiles: `dev` (quick to build again) for tests, `release` for all that is measured or
# shown. `.make/built` stands for either, `.make/release` for the release one alone.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
CARGO := cargo
FUZZ_S ?= 600
CRATE := src/dataplane
RUST := $(shell find $(CRATE)/src -name '*.rs') $(CRATE)/Cargo.toml $(CRATE)/Cargo.lock
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: help install demo test lint conformance bench bench-ledger bench-fleet bench-quality bench-peers faults fuzz fuzz-seeds simulate examples proto constraints clean

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .make/release  ## Build the release and put the CLI into .venv
	@echo "$(BIN)/gateway --help"

demo: .make/release  ## A real model behind the gateway, in a minute
	@$(BIN)/python -m examples.demo

test: .make/built  ## All tests: Rust, then Python up to whole processes
	@scripts/postgres.sh
	cd $(CRATE) && $(CARGO) test --quiet
	$(BIN)/python -m pytest -q

lint: .make/built  ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if $(CARGO) fmt --version >/dev/null 2>&1; then cd $(CRATE) && $(CARGO) fmt --check; \
	  else echo "lint: rustfmt is not installed, Rust's format was not checked"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then cd $(CRATE) && $(CARGO) clippy --quiet --all-targets -- -D warnings; \
	  else echo "lint: clippy is not installed, Rust was not linted"; fi

conformance: .make/built  ## h2spec --strict, and grpc-go's interop cases on both sides of the gateway
	@command -v go >/dev/null || { echo "conformance: Go is not installed, and it builds h2spec and grpc-go's interop programs"; exit 1; }
	CONFORMANCE=required $(BIN)/python -m pytest -q tests/conformance

bench: .make/release  ## The decision path, with pytest-benchmark
	$(BIN)/python -m pytest benchmarks/routing --benchmark-only -q -o timeout=0

bench-ledger: .make/built  ## Records, labels and leases a second, on SQLite and PostgreSQL
	@scripts/postgres.sh
	$(BIN)/python benchmarks/ledger/run.py

bench-fleet: .make/release  ## Memory of a sidecar at rest and under load
	$(BIN)/python benchmarks/fleet/run.py

bench-quality: .make/built  ## A cycle of gates over 100 routes of 20 segments
	PYTHONPATH=. $(BIN)/python benchmarks/quality/gates.py
	PYTHONPATH=. $(BIN)/python benchmarks/quality/arms.py

bench-peers: .make/release  ## The byte path beside HAProxy, nghttpx and Envoy
	$(BIN)/python benchmarks/peers/run.py
	$(BIN)/python benchmarks/peers/shadow.py

fuzz: .make/venv  ## Every parser under a fuzzer, FUZZ_S seconds each (600), two at a time
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-fuzz
	scripts/fuzz.sh $(FUZZ_S)

fuzz-seeds: .make/built  ## Write the fuzzers' seeds anew
	PYTHONPATH=. $(BIN)/python scripts/fuzz_seeds.py

faults: .make/built  ## Rollouts, reloads, deadlines, killed servers, gateways and fleets under load, at length
	@scripts/postgres.sh
	FAULTS=long $(BIN)/python -m pytest tests/faults tests/fleet/test_totals.py tests/wire/test_review_killed.py -q -s -o timeout=0

simulate: .make/built  ## The statistics' simulations at length: coverage, false alarms, guarantees
	SIMULATE=long $(BIN)/python -m pytest tests/quality tests/autopilot -q -s -o timeout=0

examples: .make/built  ## Check every settings file under examples/
	@for file in examples/settings/*.yaml; do $(BIN)/gateway check --offline $$file || exit 1; done

proto: .make/venv  ## Generate the code of protos/
	$(BIN)/python scripts/protos.py

constraints: .make/venv  ## Pin what is installed now
	{ echo "# Made by \`make constraints\`: versions that were tested together."; \
	  $(UV) pip freeze --exclude-editable | grep -v '^model-gateway' | grep '=='; } > constraints.txt

clean:  ## Remove everything that was built
	rm -rf .make .venv .venvs $(CRATE)/target src/gateway/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.make/venv: pyproject.toml constraints.txt scripts/toolchain.sh
	@mkdir -p .make
	@PYTHON=$(PYTHON) scripts/toolchain.sh
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@[ -x $(UV) ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(UV) pip install --quiet -c constraints.txt -r pyproject.toml --extra dev
	@touch $@

.make/built: .make/venv $(RUST)
	@echo "building the data plane (dev profile)"
	@$(BIN)/maturin develop --uv --quiet --profile dev
	@rm -f .make/release
	@touch $@

.make/release: .make/venv $(RUST)
	@echo "building the data plane (release profile; two to three minutes the first time)"
	@$(BIN)/maturin develop --uv --quiet --release
	@touch .make/built $@
