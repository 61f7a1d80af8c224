# `make sim` runs the default study, `make test` the tests; both set up .venv first.
PYTHON ?= python3
STUDY ?= digits
BOARD ?= pi3
LINK ?= ethernet
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt
# The CPU build of torch, if the configured index does not have it.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PROTO := wireleak/common/wire/split_head.proto
export OMP_NUM_THREADS ?= 1
# One test process a core, at most four: tests start processes of their own.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

.PHONY: sim pi test test-all mutants fuzz results coverage dist lint format bench reference proto install install-dev simulation blogs \
	deps-system clean proto-web web

sim: install
	$(BIN)/wireleak run $(STUDY)

# Compare this machine's device with an emulated Raspberry Pi: make pi BOARD=pi4 LINK=wifi.
pi: install
	$(BIN)/wireleak pi --board $(BOARD) --link $(LINK)

test: install-dev
	$(BIN)/pytest -m "not study" $(PARALLEL)

test-all: install-dev $(if $(shell command -v npm),web)
	$(BIN)/pytest

# Plant known kinds of bugs, one at a time; the tests must catch 95 % of them. Takes a quarter of an hour.
mutants: install-dev
	$(BIN)/python -m tests.mutants

# Read a million mutated captures; none may end the reading. Takes a quarter of an hour.
fuzz: install-dev
	$(BIN)/python -m tests.fuzz

# Run every study at its published size, then renew docs/results. Takes hours; give the command again to go on.
results: install-dev
	$(BIN)/python docs/renew_results.py

# The share of each package's lines that the tests ran, in any process.
coverage: install-dev
	$(BIN)/coverage erase
	@status=0; $(BIN)/coverage run -m pytest -m "not study" $(PARALLEL) || status=$$?; $(BIN)/coverage combine --quiet; rm -f .coverage.*; \
	for package in client server adversary wireleak/common wireleak/lab; do \
		printf '%-16s %s %%\n' $$package "$$($(BIN)/coverage report --include "$$package/*" --format total)"; done; \
	exit $$status

# A source distribution, and a wheel built from it.
dist: install-dev
	rm -rf dist build
	$(BIN)/python -m build

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_stubs.py
	$(BIN)/python tests/check_layout.py

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev
	$(BIN)/python -m benchmarks

# Write docs/reference from the commands, schemas and registries.
reference: install-dev
	$(BIN)/python docs/make_reference.py

proto: install-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iwireleak/common/wire=proto/wireleak/v1 \
		--python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. $(PROTO)

# The page's stubs; they need Node.js.
proto-web: install-dev web
	$(BIN)/python -m grpc_tools.protoc -Iproto/wireleak/v1 --es_out=client/web/src/gen --es_opt=target=js \
		--plugin=client/web/node_modules/.bin/protoc-gen-es split_head.proto

# Build the page of `wireleak serve --web`. Needs Node.js; client/web/package-lock.json pins every package.
web: client/web/dist/index.html

client/web/dist/index.html: client/web/package-lock.json client/web/build.mjs $(wildcard client/web/src/* client/web/src/gen/*)
	cd client/web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && node build.mjs

install: .venv/.installed
install-dev: .venv/.installed-dev

.venv/.installed: pyproject.toml constraints.txt
	@echo "setting up .venv (once; torch is large)"
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wireleak needs Python 3.11 or newer; run make with PYTHON=/path/to/it")'
	$(PYTHON) -m venv .venv
	$(PIP) torch || $(PIP) --index-url $(TORCH_INDEX) torch
	$(PIP) --editable '.[lab]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) --editable '.[lab,dev]'
	@touch $@

# Install Ray, for variants with engine = "simulation": hundreds of virtual clients.
simulation: install
	$(PIP) --editable '.[lab,simulation]'

# Download the blog posts of the study `text`, from the package dlatk (non-commercial research).
blogs: install
	$(BIN)/python -m wireleak.lab.data.sources.fetch_blogs

# Install tshark and tcpdump for the sniffer and the tests, Chromium to view reports, npm to build the web page, adb for
# Android, the emulator of a Raspberry Pi with what builds its system, and Fashion-MNIST (Debian, Ubuntu).
deps-system:
	@for program in tshark tcpdump chromium qemu-system-aarch64 mmdebstrap mkfs.ext4 newuidmap; do \
		command -v $$program > /dev/null || { export DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq && apt-get install -y -qq tshark tcpdump chromium && \
			apt-get install -y -qq --no-install-recommends \
				qemu-system-arm mmdebstrap e2fsprogs uidmap debian-archive-keyring; exit; }; done
	@# Node.js of other makers brings its own npm, which Debian's would not stand beside.
	@for program in npm adb; do \
		command -v $$program > /dev/null || { export DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends $$program; }; done
	@test -d /usr/share/datasets/fashion-mnist || { export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends dataset-fashion-mnist; }

clean:
	rm -rf .venv build dist client/web/dist client/web/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
