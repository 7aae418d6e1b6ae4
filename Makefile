# `make figures` and `make test`, each with an environment of its own when there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: figures test test-all test-lowest mutants benchmark faults clean

figures: $(VENV)/installed  ## train the toy nets on circles, draw every figure into runs/figures/
	$(BIN)/python figures/regenerate.py --retrain 2

test: $(VENV)/installed  ## the tests
	$(BIN)/python -m pytest -n 2

test-all: test  ## and those marked slow
	$(BIN)/python -m pytest -n 2 -m slow

test-lowest:  ## the tests with the lower bounds of requirements.txt, which need Python < 3.13
	$(PYTHON) -m venv $(VENV)/lowest
	sed 's/>=/==/' requirements.txt | \
		$(VENV)/lowest/bin/python -m pip install --quiet --requirement /dev/stdin
	$(VENV)/lowest/bin/python -m pytest -n 2

mutants: $(VENV)/installed  ## mutation testing of the tests; half an hour
	$(BIN)/python -m pip install --quiet pytest-cov
	$(BIN)/python -m tests.mutants

benchmark: $(VENV)/installed  ## the speeds in docs/, and what a grade costs; nothing else should be running
	$(BIN)/python tests/benchmarks/part1.py
	$(BIN)/python tests/benchmarks/part2.py
	$(BIN)/python tests/benchmarks/part3.py
	$(BIN)/python tests/benchmarks/grading.py

faults: $(VENV)/installed  ## the table of faults in docs/reliability.md; an hour
	$(BIN)/python -m tests.faults

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

clean:  ## remove the environment and the runs
	rm -rf $(VENV) runs
