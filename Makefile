# Two commands do all set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# CPU builds of torch are enough everywhere; this pin keeps pip from fetching CUDA.
CONSTRAINTS := constraints.txt

.PHONY: demo test test-long lint bench docs tutorials clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.user: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[report,viz]'
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[all,dev]'
	touch $@

demo: $(VENV)/.user  ## the whole pipeline on a phantom whose truth is known
	$(BIN)/arcuate demo --out demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.dev lint  ## everything, with reduced counts
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-long: $(VENV)/.dev  ## fuzzing, kills and races at their full counts
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long or not long"

bench: $(VENV)/.dev  ## side by side with the peers; writes benchmarks/results
	$(BIN)/python -m benchmarks --write

clean:
	rm -rf $(VENV) build demo
