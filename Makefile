# `make demo` and `make test` do everything on a machine with only Python 3 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-long test-versions lint types unit docs clean

demo: $(INSTALLED)
	@$(BIN)/python examples/demo.py

test: $(INSTALLED) lint types unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

# Three at once, also on two cores: tests wait as often as they work.
unit: $(INSTALLED)
	$(BIN)/pytest -n 3 --dist loadgroup

# Everything the project needs, in its own folder; made anew when the versions change.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and "Python 3.10 to 3.13 is needed; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	$(BIN)/unified-agents model install
	@touch $(INSTALLED)

# What takes minutes: 200 kills a backend (`make test` does 20), every stop of every team, the whole suite on the stranger's backend, every benchmark once.
test-long: $(INSTALLED)
	UNIFIED_AGENTS_KILLS=200 $(BIN)/pytest -s tests/test_kill.py
	UNIFIED_AGENTS_LONG=1 $(BIN)/pytest -n 3 --dist loadgroup --timeout 900 tests/test_stranger.py tests/test_benchmarks.py unified_agents/testing/conformance/test_resume.py

# The conformance suite on the lowest and the highest supported version of every framework, each in an environment of its own.
test-versions: $(INSTALLED)
	$(BIN)/python -m tests.versions

# The pages that are made from data.
docs: $(INSTALLED)
	$(BIN)/python -m unified_agents.fidelity > docs/support-matrix.md
	$(BIN)/python -m unified_agents.events > docs/events.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
