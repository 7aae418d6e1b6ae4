# `make figures` and `make test`, each with an environment of its own when there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: figures test benchmark faults clean

figures: $(VENV)/installed  ## train the toy nets for real and draw every figure
	$(BIN)/python figures/regenerate.py --retrain 2 3

test: $(VENV)/installed  ## the grade
	$(BIN)/python -m pytest

benchmark: $(VENV)/installed  ## the speeds in the README; nothing else should be running
	$(BIN)/python tests/benchmarks/part1.py
	$(BIN)/python tests/benchmarks/part2.py
	$(BIN)/python tests/benchmarks/part3.py

faults: $(VENV)/installed  ## the table of faults in the README; an hour
	$(BIN)/python -m tests.survival

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

clean:  ## remove the environment and the runs
	rm -rf $(VENV) runs
