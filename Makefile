# Two commands do all set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# CPU builds of torch are enough everywhere; this pin keeps pip from fetching CUDA.
CONSTRAINTS := constraints.txt
TUTORIALS := single_subject csd_on_arrays multi_tissue_csd custom_step region_averages harmonisation
TUTORIAL_OPTIONS ?=
OLDEST := .venv-oldest
ANTS := .venv-ants
ANTS_TESTS := tests/test_registration.py tests/test_structural.py tests/test_templates.py tests/test_composites.py \
	tests/test_kwneuro.py tests/tutorials/test_kwneuro_tutorials.py tests/commands/test_registration_commands.py \
	tests/models/test_reorient.py tests/tutorials/test_tutorials.py
OLDEST_TESTS := tests/test_gradients.py tests/test_dwi.py tests/test_dti.py tests/test_laws.py tests/test_cli.py tests/io \
	tests/volumes tests/cache

.PHONY: demo test test-ants test-long test-oldest lint bench docs tutorials clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# the viewer of the reports is built from npm by the installation
VIEWER := hatch_build.py js/package.json js/package-lock.json js/build.mjs $(wildcard js/src/*.js)

$(VENV)/.user: $(BIN)/python pyproject.toml $(VIEWER)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[viz]'
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml $(CONSTRAINTS) $(VIEWER)
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

test-ants:  ## what ANTs does, against ANTs by hand; it asks for older NumPy and SciPy, so it has its own environment
	$(PYTHON) -m venv --clear $(ANTS)
	$(ANTS)/bin/python -m pip install --quiet '.[ants]' hypothesis pytest pandas
	$(ANTS)/bin/python -m pytest $(ANTS_TESTS)

test-oldest:  ## the oldest versions of the declared ranges: all but the networks, the peers and the report's browser
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet -c constraints-oldest.txt '.[viz,cohort]' hypothesis pytest
	$(OLDEST)/bin/python -m pytest $(OLDEST_TESTS)
	$(OLDEST)/bin/arcuate demo --size small --out $(OLDEST)/demo

bench: $(VENV)/.dev  ## side by side with the peers; writes benchmarks/results
	$(BIN)/python -m benchmarks --write

docs: $(VENV)/.dev  ## the site with the executed tutorials, in docs/_build/html; warnings are errors
	ARCUATE_GALLERY=full $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

tutorials: $(VENV)/.dev  ## every tutorial as a script, on the phantom
	set -e; for name in $(TUTORIALS); do \
		echo "== $$name"; $(BIN)/python tutorials/$$name.py --out tutorial-results/$$name $(TUTORIAL_OPTIONS); done

clean:
	rm -rf $(VENV) $(OLDEST) $(ANTS) build demo docs/_build docs/generated tutorial-results js/node_modules src/arcuate/report/static
