# Everyday work, one word each. Every target sets up what it needs in $(VENV); the second call finds it there.

PYTHON ?= python3
VENV   ?= .venv
STAMP  := $(VENV)/.installed
BIN    := $(VENV)/bin

# Extra words for the tool behind a target: make test ARGS="-k ring", make bench SIZE=small ARGS="--runs 1"
ARGS   ?=
SIZE   ?= full
SEEDS  ?= 2000
SECONDS ?= 120

# Tests that wait for servers leave a core idle, so one more than there are cores.
JOBS    ?= $(shell expr $$(nproc) + 1)

.DEFAULT_GOAL := help
.PHONY: help setup demo servers three-sites test test-all lint format bench sim model chaos truth chaos-servers man wheel clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(STAMP) ## the local virtual environment, with drtool installed from this tree

demo: $(STAMP) ## three sites on this machine: back up, lose one, restore, compare byte for byte (under 3 minutes)
	@$(BIN)/python examples/demo.py $(ARGS)

servers: $(STAMP) ## three real S3 servers and an SSH server on this machine, to play with (DIR=…: kept there); Ctrl-C ends them
	@$(BIN)/python examples/servers.py $(if $(DIR),--directory $(DIR))

three-sites: $(STAMP) ## a disk, a bucket and an SSH server as sites; one dies in mid-backup; everything comes back
	@$(BIN)/python examples/three-sites/run.py

# Files in the order of their folders: chaos and e2e, which take longest, come first, so no worker is left with them at the end.
# With PYTHONDONTWRITEBYTECODE every program that a test starts would compile all of drtool again. Thousands of short threads leave
# malloc with several fragmented arenas, 500 MB a worker, and every fork copies the page tables of all of it: one arena stays small.
PYTEST := env -u PYTHONDONTWRITEBYTECODE MALLOC_ARENA_MAX=1 \
  $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## the test suite, on all cores (under seven minutes on two)
	@$(PYTEST) $(ARGS)

test-all: test ## then what takes long: every step at which something may die, more seeds, more servers (about 20 minutes more)
	@THOROUGH=1 $(PYTEST) -m 'thorough or sampled or hypothesis' $(ARGS)

lint: $(STAMP) ## style, formatting, strict types, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code the way `make lint` wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## side by side with restic and BorgBackup (SIZE=small: a quick look; see benchmarks/README.md)
	@$(BIN)/python -m benchmarks --size $(SIZE) $(ARGS)

sim: $(STAMP) ## the catalogue's protocol under simulated loss, crashes and partitions; prune beside writers and movers (SEEDS=100000: longer)
	@$(BIN)/python tests/sim/run.py --seeds $(SEEDS) $(ARGS)
	@$(BIN)/python tests/prune_sim/prune_run.py --seeds $(SEEDS)

model: $(STAMP) ## every history of a few steps of the catalogue's protocol, with Spin (apt-get install spin gcc)
	@$(BIN)/python models/spin_check.py

chaos: $(STAMP) ## real processes over real disks that go away, fill up and lose power (SECONDS=600: longer; SEED=7; best as root)
	@$(BIN)/python tests/chaos/run.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

truth: $(STAMP) ## random commands and damage; an independent oracle checks what drtool says (SEEDS=200: more; SEED=7 STEPS=30: one again)
	@$(BIN)/python tests/truth/run.py $(if $(SEED),--seed $(SEED),--seeds $(if $(filter file,$(origin SEEDS)),20,$(SEEDS))) --steps $(or $(STEPS),20) $(ARGS)

chaos-servers: $(STAMP) ## real S3 servers killed with -9 while backups run (CYCLES=100; about ten minutes)
	@$(BIN)/python tests/chaos/chaos_servers.py --cycles $(or $(CYCLES),100) $(if $(SEED),--seed $(SEED))

man: $(STAMP) ## generate the man page and the schema of the events
	@$(BIN)/python -m drtool.cli.manual > docs/drtool.1.new && mv docs/drtool.1.new docs/drtool.1
	@$(BIN)/python -c 'import json; from drtool.events import schema; print(json.dumps(schema(), indent=2))' > docs/events.schema.json

wheel: $(STAMP) ## try the wheel: build it, install it in a fresh environment, run it; nothing is kept
	@PYTHON=$(BIN)/python .ci/check-wheel

clean: ## remove what these targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build

# pip before 25.1 does not know `--group`; Debian 12 brings 23.0.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "drtool needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing drtool and its development tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@
