# Every target sets up what it needs. Python 3.11 and make are enough.
PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON) 2>/dev/null))
PYTHON = python3
endif
BIN = .venv/bin
export OMP_NUM_THREADS = 1

.PHONY: run test standard reference adaptive entries speed fuzz faults interop browser browser-short lint clean

run: .venv/installed
	$(BIN)/unfooled run smoke

standard: .venv/installed
	$(BIN)/unfooled run standard

# The reference results: docs/findings.md with its pictures, and tables in leaderboard/reference.
# PHOTOGRAPHS is the folder of a run of cifar10, to be compared; ADAPTIVE=1 adds the adaptive track.
reference: .venv/installed
	$(BIN)/unfooled run standard $(if $(ADAPTIVE),--adaptive) --no-report
	$(BIN)/python -m unfooled.leaderboard.publication $$(ls -td runs/standard-* | head -1) \
		$(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS))

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
	$(BIN)/python -m tests.speed.standard

fuzz: .venv/installed-test
	UNFOOLED_FUZZ=10000 $(BIN)/python -m pytest -q tests/test_hostile.py tests/test_checker.py

faults: .venv/installed-test
	UNFOOLED_FAULTS=50 $(BIN)/python -m pytest -q tests/test_faults.py

adaptive: .venv/installed
	$(BIN)/unfooled run standard --adaptive

interop: .venv/installed-test
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,interop]"

# All tests of the board in Chromium, then the docs' pictures of it anew, from leaderboard/entries.
browser: .venv/installed-browser
	tests/browser/chromium
	UNFOOLED_BROWSER=1 $(BIN)/python -m pytest -q tests/browser
	$(BIN)/python tests/browser/pictures.py

# One page at one width. It goes on without a browser only where there is none and this user can install none.
browser-short: .venv/installed-test
	@if tests/browser/chromium; then $(MAKE) --no-print-directory .venv/installed-browser && \
		UNFOOLED_BROWSER=1 $(BIN)/python -m pytest -q -m short tests/browser; \
	elif [ $$? = 75 ]; then echo "browser: the board was NOT looked at in a browser"; else exit 1; fi

# Entries of all baselines of the standard suite, each verified; CODE is where their source can be read.
entries: .venv/installed
	$(if $(CODE),,$(error make entries CODE=https://... says where the source can be read))
	$(BIN)/unfooled run standard $(if $(ADAPTIVE),--adaptive) --no-report
	$(BIN)/unfooled leaderboard baselines $$(ls -td runs/standard-* | head -1) --code $(CODE)
	$(BIN)/unfooled leaderboard verify leaderboard/entries --jobs 2 || [ $$? = 1 ]
	$(BIN)/unfooled leaderboard check leaderboard/entries

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

.venv/installed-browser: tests/browser/requirements.txt .venv/installed-test
	$(BIN)/python -m pip install -q -r tests/browser/requirements.txt
	touch $@

clean:
	rm -rf .venv build dist *.egg-info runs
