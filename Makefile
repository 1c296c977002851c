# Every target sets up what it needs. Python 3.11 and make are enough.
PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON) 2>/dev/null))
PYTHON = python3
endif
BIN = .venv/bin
export OMP_NUM_THREADS = 1

.PHONY: run test standard adaptive speed fuzz faults interop browser lint clean

run: .venv/installed
	$(BIN)/unfooled run smoke

standard: .venv/installed
	$(BIN)/unfooled run standard

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -n 2 tests

speed: .venv/installed-test
	$(BIN)/python -m tests.speed.metrics
	$(BIN)/python -m tests.speed.bootstrap
	$(BIN)/python -m tests.speed.interpreters vgg resnet densenet
	$(BIN)/python -m tests.speed.perturbation
	$(BIN)/python -m tests.speed.smoke
	$(BIN)/python -m tests.speed.smoke --refit

fuzz: .venv/installed-test
	UNFOOLED_FUZZ=10000 $(BIN)/python -m pytest -q tests/test_hostile.py tests/test_checker.py

faults: .venv/installed-test
	UNFOOLED_FAULTS=50 $(BIN)/python -m pytest -q tests/test_faults.py

adaptive: .venv/installed
	$(BIN)/unfooled run standard --adaptive

interop: .venv/installed-test
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,interop]"

browser: .venv/installed-test
	command -v chromium || apt-get install -y --no-install-recommends chromium
	$(BIN)/python -m pip install -q -r tests/browser/requirements.txt
	npm install --no-save --silent axe-core
	UNFOOLED_AXE=node_modules/axe-core/axe.min.js $(BIN)/python -m pytest -q tests/browser

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info runs
