# Two commands do everything, set-up included: `make repro` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Stages call `python`: it must be the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH
# DVC asks for the user's name, which a number without an entry in /etc/passwd has not, as in containers.
export USER ?= nobody
# Two stamps at once would run two pips in one environment.
.NOTPARALLEL:

# An environment that another tool has made may have none.
NEEDS_PIP = @$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "$(VENV) has no pip; remove $(VENV) and run make again, or: $(BIN)/python -m ensurepip" >&2; exit 2; }

.DEFAULT_GOAL := help
.PHONY: help repro test docs gallery reproduce clean

help: ## print these lines
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1|\2/' | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

repro: $(VENV)/run.stamp ## set up what is missing, then run the pipeline; JOBS=N: stages at once (default: the cores)
	@$(BIN)/python -m stages.plan --check
	@$(BIN)/python -m pipeline repro $(if $(JOBS),-j $(JOBS))

test: $(VENV)/test.stamp ## set up what is missing, then lint, check types and run the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pytest

docs: $(VENV)/docs.stamp ## set up what is missing, then build the documentation into site/; open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

gallery: $(VENV)/run.stamp ## renew the README's table and pictures from the last run
	@$(BIN)/python -m pipeline gallery

reproduce: $(VENV)/run.stamp ## list the published experiments; EXPERIMENT=name: rerun what is missing of one (JOBS=N)
	@$(BIN)/python -m pipeline reproduce $(EXPERIMENT) $(if $(JOBS),-j $(JOBS))

clean: ## remove outputs and states of unfinished runs; environment, DVC's cache, logs, searches, experiments' clones stay
	rm -rf data/raw data/tasks data/weights runs models eigenvectors metrics/runs metrics/summary.* plots figures
	rm -rf logs/live scratch/train scratch/eigenspectrum

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "needs Python 3.11 or newer, $(PYTHON) is older; try: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@# Of an environment that was half made, or whose Python is gone, only what makes it look whole is removed.
	@test ! -e $(VENV)/pyvenv.cfg || rm -f $(BIN)/python $(BIN)/python3* $(VENV)/*.stamp
	$(PYTHON) -m venv $(VENV) || { rm -f $(BIN)/python; exit 2; }

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(NEEDS_PIP)
	$(BIN)/python -m pip install --no-user --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(NEEDS_PIP)
	$(BIN)/python -m pip install --no-user --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(VENV)/run.stamp $@

$(VENV)/docs.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(NEEDS_PIP)
	$(BIN)/python -m pip install --no-user --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $(VENV)/run.stamp $@
