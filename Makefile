# Every target makes the virtual environment itself when it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
SITE_INSTALLED := .venv/site-installed
SOURCES := src tests tools fuzz soak lite
FUZZ_SECONDS ?= 600
FUZZ_JOBS ?= 1

# What computes with floats. Other tests do the same on every processor.
NUMERIC := $(addprefix tests/,analysis codebook lite memory methods nets stream versions)
PROCESSORS := default avx2 onednn-avx2 threads ulps

.PHONY: demo test test-lowest test-processors $(PROCESSORS:%=test-%) lint type format docs bench fuzz soak clean

demo: $(INSTALLED)
	$(BIN)/crumb demo

# Bytecode is kept, whatever the environment says: it takes a tenth of the time to make it anew.
test: $(INSTALLED)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

# As on other processors, one after another: `make -k` goes on after a failure. `make test` covers
# this one with one thread. The last rounds every sum differently (tests/rounding.py).
test-processors: $(PROCESSORS:%=test-%)

test-default test-avx2: test-%: $(INSTALLED)
	ATEN_CPU_CAPABILITY=$* $(BIN)/python -m pytest

test-onednn-avx2: $(INSTALLED)
	ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest $(NUMERIC)

test-threads: $(INSTALLED)
	OMP_NUM_THREADS=4 $(BIN)/python -m pytest $(NUMERIC)

test-ulps: $(INSTALLED)
	CRUMB_TEST_ULPS=4 $(BIN)/python -m pytest $(NUMERIC)

# With the oldest version of every dependency that pyproject.toml allows.
test-lowest: $(INSTALLED)
	test -e .venv-lowest || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-lowest
	VIRTUAL_ENV=$(CURDIR)/.venv-lowest $(BIN)/uv pip install --quiet --resolution lowest-direct --editable '.[dev]'
	.venv-lowest/bin/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

type: $(INSTALLED)
	$(BIN)/pyright

# The documentation site, in site/. It can be opened from disk.
docs: $(SITE_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

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

$(SITE_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-lowest build dist site src/*.egg-info
