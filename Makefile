# Thin: every line is a command you could type. The first call installs into .venv (a minute or
# two, 1.3 GB; 2 GB with what tests and linters need), later calls find it done.
#
#   make run                     a short search on ETTh1
#   make run RUN_ARGS="..."      the same with other flags of `nas run`
#   make test TEST_ARGS="..."    all tests that need neither a GPU nor much time
#   make faults                  every fault of docs/fault-tolerance.md, and its table again
#   make probes                  every way out of the sandbox, and docs/sandbox-probes.md again
#   make lint bench format clean
#
#   PYTHON=python3.12            the interpreter .venv is made from
#   TORCH_INDEX=<address>        a package index to take torch from, for instance one with CUDA builds

PYTHON = python3
TORCH_INDEX =
RUN_ARGS = --max-runs 5 --repeat-base 0 --minutes-per-run 0.5
TEST_ARGS =

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test faults probes lint bench format clean

run: $(VENV)/installed
	$(BIN)/nas run $(RUN_ARGS)

# Two processes (TEST_ARGS="-n 0" for one) of one thread each: on a busy machine PyTorch's second
# thread makes a small step a hundred times slower.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(TEST_ARGS)

# The table is made also when a test has failed, and says so.
faults: $(VENV)/installed-dev
	PYTHONPATH=tests/faults OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "fault and not gpu" \
	  -p fault_results --fault-results tests/faults/results.json; \
	  status=$$?; $(BIN)/python tests/faults/fault_table.py; exit $$status

# As root it tries a normal user, too.
probes: $(VENV)/installed-dev
	$(BIN)/python tests/sandbox/probe_table.py --measure

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check_words.py

# Each benchmark prints its results as JSON in its last line. One that needs arguments is run by hand.
bench: $(VENV)/installed
	@for file in benchmarks/*.py; do \
	  if [ ! -e "$$file" ]; then continue; fi; \
	  if grep -q -e 'required=True' -e 'add_argument("[a-z]' "$$file"; then \
	    echo "$$file needs arguments: $(BIN)/python $$file --help"; continue; \
	  fi; \
	  echo "$$file"; \
	  $(BIN)/python "$$file" || exit 1; \
	done

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache

# torch comes first and alone, so that TORCH_INDEX is asked for nothing else.
$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "Installing into $(VENV); the first time this takes a minute or more."
	$(PIP) $(TORCH_INDEX:%=--index-url=%) torch
	$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e ".[dev,all]"
	@touch $@

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or later; '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1 || echo not there). Try: make PYTHON=python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	@touch $@
