# make demo · make test · make setup · make lint · make types · make bench · make docs
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint types bench docs figures wheel clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/transect demo --out runs/demo

test: setup
	$(BIN)/python -m pytest -n 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

bench: setup
	$(BIN)/python bench/run.py

docs: setup
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

figures: demo
	mkdir -p docs/figures
	cp runs/demo/figures/drift.png runs/demo/figures/excess.png runs/demo/figures/pairs.png docs/figures/

wheel: setup
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv dist build .pytest_cache .ruff_cache
