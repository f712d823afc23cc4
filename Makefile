# SPDX-License-Identifier: BSD-3-Clause
# Everything works on a fresh machine: the first target that needs .venv makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools prints a page about editable installs in general.
UNWARNED := PYTHONWARNINGS="ignore:Editable installation"
C_FILES := $(shell find src_c tests/c -name "*.c" -o -name "*.h")

C_TESTS := $(MAKE) --no-print-directory -s -j$(shell nproc) -C tests/c

PAGES := $(sort $(wildcard examples/gallery/plot_*.py))

.PHONY: demo gallery gallery-full smoke test test-deep test-c test-c-sanitized test-arm check bench docs wheel format clean build

demo: $(VENV)/demo build
	$(BIN)/python examples/demo.py

# All pages in their quick form: pictures, and rows of results, in build/gallery.
gallery: $(VENV)/demo build
	set -e; for page in $(PAGES); do echo $$page; $(BIN)/python $$page --pictures build/gallery; done

# The papers' sizes, some hours. `make gallery-full TEXT=FILE VOWELS=FOLDER MOTIONS=FOLDER`: see docs/gallery.md.
FULL := --full --pictures build/gallery-full
gallery-full: $(VENV)/demo build
	set -e; for page in $(PAGES); do echo $$page; $(BIN)/python $$page $(FULL); done
	$(BIN)/python examples/gallery/plot_adding.py --product $(FULL)
	$(BIN)/python examples/gallery/plot_temporal_order.py --three $(FULL)
	$(BIN)/python examples/gallery/plot_two_sequence.py --noisy $(FULL)
	$(if $(TEXT),$(BIN)/python examples/gallery/plot_language_model.py --data $(TEXT) $(FULL))
	$(if $(TEXT),$(BIN)/python examples/gallery/plot_language_model.py --words --data $(TEXT) $(FULL))
	$(if $(VOWELS),$(BIN)/python examples/gallery/plot_bidirectional.py --data $(VOWELS) $(FULL))
	$(if $(MOTIONS),$(BIN)/python examples/gallery/plot_activity.py --data $(MOTIONS) $(FULL))
	cat build/gallery-full/*.md

smoke: $(VENV)/test build
	$(BIN)/python -m pytest -q -m "smoke and not deep"

# Two processes share the tests, which are handed out one by one: many wait, for a compiler or for a process
# that they started. PyTorch's threads in one must not spin against those in the other.
test: $(VENV)/test build
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not deep"

test-deep: $(VENV)/test $(VENV)/docs build
	$(BIN)/python -m pytest -q -m deep
	tests/sanitize.sh

# The C tests need no Python; `make test` runs them too.
test-c:
	$(C_TESTS)

test-c-sanitized:
	$(C_TESTS) SANITIZE=address,undefined

# NEON by a cross compiler and qemu.
test-arm:
	$(C_TESTS) TARGET=arm

check: $(VENV)/check build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	mkdir -p build/omp && cp $$($(CC) -print-file-name=include)/omp.h build/omp/  # clang-tidy lacks it
	$(BIN)/clang-tidy --quiet --warnings-as-errors='*' $(filter src_c/%.c,$(C_FILES)) -- \
		-std=gnu11 -fopenmp -Isrc_c/include -Isrc_c -isystem build/omp

bench: $(VENV)/bench build
	$(BIN)/python bench/run.py
	$(BIN)/python -m pytest -q bench --benchmark-only --benchmark-json=bench/results/hot_calls.json

# The site, in build/site. `make docs GALLERY=1` runs the gallery's pages for their pictures.
docs: $(VENV)/docs build
	OMP_WAIT_POLICY=passive $(BIN)/python -m sphinx -q -a -W --keep-going -d build/doctrees docs build/site

wheel: $(VENV)/test
	$(BIN)/python -m build --outdir dist
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir wheelhouse dist/*.whl

format: $(VENV)/check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

# Compiles what has changed.
build: $(VENV)/base
	$(BIN)/python setup.py -q build_ext --inplace

# The editable install makes `import fastlstm` work from anywhere; what is compiled stands in the tree.
INSTALL := FASTLSTM_PREBUILT=1 $(UNWARNED) $(BIN)/python -m pip install --quiet --no-build-isolation --editable

$(VENV)/base: pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "setuptools>=77" "cython>=3.1" wheel numpy scipy
	$(INSTALL) .
	touch $@

$(VENV)/demo $(VENV)/test $(VENV)/check $(VENV)/bench $(VENV)/docs: $(VENV)/%: $(VENV)/base
	$(INSTALL) ".[$*]"
	touch $@

clean:
	rm -rf build dist wheelhouse *.egg-info fastlstm/*.so
	rm -rf docs/gallery docs/results docs/reference/generated
