# Needs only Python >= 3.11, pip and make. Everything that is installed goes into .venv.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# Address of an index that carries CPU builds of torch, for machines that should not fetch the CUDA packages.
TORCH_INDEX ?=
# Further arguments for pytest, as in: make test ARGS="-m 'not slow'"
ARGS ?=
# Folder of the CMU-MOSI features, for make results.
MOSI ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

# Each stamp is touched when its step has finished, so a step that was interrupted is done again. The tools stand on
# the runtime: after `make install`, `make serve` finds its stamp and installs nothing.
CREATED := $(VENV)/.created
RUNTIME := $(VENV)/.runtime
TOOLS := $(VENV)/.tools
RAY := build/ray

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve install test lint type bench ray bench-stream results format lock clean

help: ## Show the targets and the variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: PYTHON=$(PYTHON) HOST=$(HOST) PORT=$(PORT) TORCH_INDEX=$(TORCH_INDEX) ARGS=$(ARGS)"

serve: $(RUNTIME) ## Start the service on HOST:PORT with the shipped checkpoints
	@$(BIN)/fusionrnn serve --host $(HOST) --port $(PORT)

install: $(TOOLS) ## Install the service and everything to develop, train and measure it

test: lint type ## Check style and types, then run the tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(TOOLS) ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type: $(TOOLS) ## Check types
	$(BIN)/mypy

bench-stream: $(TOOLS) ## Measure streaming sessions: an hour, or ARGS="--quick"; --data FOLDER also what is heard
	$(BIN)/python -m benchmarks.stream --out docs/results/streaming.md $(ARGS)

bench: $(TOOLS) ## Measure the service beside others: hours, or ARGS=--quick
	$(BIN)/python -m benchmarks.serving $(ARGS)

ray: $(RAY)/.tools ## Test deploy/ on a local Ray cluster of two replicas, in build/ray
	$(RAY)/bin/python -m pytest tests/deploy $(ARGS)

results: $(TOOLS) ## Repeat the studies of docs/results: hours, and MOSI=FOLDER
	for name in mosi missing-modality; do $(BIN)/fusionrnn study $$name --data $(MOSI) --out runs/studies || exit; done
	$(BIN)/fusionrnn study gradients --out runs/studies
	mkdir -p docs/results && cp -r runs/studies/*.md runs/studies/pictures docs/results
	$(BIN)/python -m benchmarks.speed --out docs/results/speed.md

format: $(TOOLS) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## Rewrite constraints.txt with the newest versions that pyproject.toml admits
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	build/lock/bin/python -m pip install --editable ".[bench,dev,traces,train]"
	{ sed '/^[^#]/,$$d' constraints.txt; build/lock/bin/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+.*//'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove what builds and checks have left (not .venv)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find app benchmarks models tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(CREATED):
	@command -v $(PYTHON) > /dev/null || { echo "fusionrnn needs Python 3.11 or newer, and there is no '$(PYTHON)': try make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "fusionrnn needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=/path/to/python")'
	@# Some systems ship Python without ensurepip: there the machine's own pip fills the new environment.
	@$(PYTHON) -m venv $(VENV) > /dev/null || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@touch $@

# torch goes first and alone: TORCH_INDEX is asked for torch and for nothing else.
$(RUNTIME): pyproject.toml constraints.txt $(CREATED)
	$(INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(INSTALL) --editable .
	@touch $@

$(TOOLS): $(RUNTIME)
	$(INSTALL) --editable ".[bench,dev,traces,train]"
	@touch $@

# Ray brings some eighty packages of its own, so it gets an environment of its own.
$(RAY)/.tools: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(RAY)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[dev,ray]"
	@touch $@
