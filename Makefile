# Each target makes .venv and installs what it needs into it; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check types lint bench clean

demo: $(VENV)/.demo
	$(BIN)/zoobench run demo --out results/runs/demo

test: $(VENV)/.test lint types
	$(BIN)/python -m pytest

check: test

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/bench_probe.py
	$(BIN)/python benchmarks/bench_siblings.py --repeats 1
	$(BIN)/python benchmarks/bench_extract.py
	$(BIN)/python benchmarks/bench_suite.py

# A stamp a set of extras: made last, so that its existence means that the install ended well.
$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

clean:
	rm -rf $(VENV) results/runs build dist
