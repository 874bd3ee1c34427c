# Works with GNU make 3.81 (macOS) and later. A second run of any target reuses what the first one made.
#
#   make demo    the main job on a sample image, into demo-out/; opens napari where there is a display
#   make test    everything that is checked: linters, types, layers, tests without and with a display
#   make lint    the checks without the tests
#   make docs    the documentation as a web site, into build/site/
#   make clean   removes what the targets made, .venv excepted
#
# PYTEST_ARGS goes to both test runs: make test-headless PYTEST_ARGS="-x tests/test_cli.py"

VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# two processes with one thread each: most tests are not about networks, and wait for one core
IN_TWO := -n 2 --dist loadfile

# the binding that the tests are run with; the plugin itself takes any that qtpy knows
export QT_API = pyqt6
# Many processes import the package and the tests: what one of them compiled is there for the others.
unexport PYTHONDONTWRITEBYTECODE
export PYTEST_QT_API = pyqt6

.PHONY: help demo test lint test-headless test-gui system-deps docs clean
.NOTPARALLEL:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed-gui
	$(BIN)/napari-sam demo

test: lint test-headless test-gui

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-headless: system-deps $(VENV)/.installed-test
	QT_QPA_PLATFORM=offscreen OMP_NUM_THREADS=1 $(BIN)/python -m pytest --no-xvfb -m "not gui" $(IN_TWO) $(PYTEST_ARGS)

# Software OpenGL may crash while it draws: what was running in that process is run again, and named at the end; with
# --dist loadfile pytest-xdist does not. Only tests/ is looked through, not the package with its doctests, some of which
# import triton (tests/conftest.py).
test-gui: system-deps $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m gui -raR -n 2 --dist worksteal --reruns 1 $(or $(PYTEST_ARGS),tests)

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict --site-dir build/site

system-deps:
	@sh scripts/system-deps.sh

clean:
	rm -rf build dist demo-out htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache

# An environment that is there already is kept, whoever made it. pip comes last when one is made, so that one whose
# making was interrupted is completed.
$(BIN)/pip:
	@sh scripts/make-venv.sh $(VENV)

$(VENV)/.installed-gui: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[gui]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml scripts/install-sam2.sh | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[test]'
	@sh scripts/install-sam2.sh $(BIN)/python
	@touch $@ $(VENV)/.installed-gui

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[docs]'
	@touch $@
