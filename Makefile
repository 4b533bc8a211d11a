# Every target makes the virtual environment itself when it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test lint type format bench clean

demo: $(INSTALLED)
	$(BIN)/crumb demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check src tests tools
	$(BIN)/ruff format --check src tests tools

type: $(INSTALLED)
	$(BIN)/pyright

bench: $(INSTALLED)
	$(BIN)/python benchmarks/assignment.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix src tests tools
	$(BIN)/ruff format src tests tools

$(INSTALLED): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist src/*.egg-info
