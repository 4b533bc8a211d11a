# Every target makes the virtual environment itself when it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
SOURCES := src tests tools fuzz soak
FUZZ_SECONDS ?= 600
FUZZ_JOBS ?= 1

.PHONY: demo test lint type format bench fuzz soak clean

demo: $(INSTALLED)
	$(BIN)/crumb demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

type: $(INSTALLED)
	$(BIN)/pyright

bench: $(INSTALLED)
	$(BIN)/crumb bench

# With coverage guidance after `.venv/bin/pip install -e '.[fuzz]'`.
fuzz: $(INSTALLED)
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS) $(FUZZ_TARGETS)

soak: $(INSTALLED)
	$(BIN)/python -m soak

format: $(INSTALLED)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Crumb needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	test -e $@ || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist src/*.egg-info
