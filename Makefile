# Everything runs inside .venv, which tools/setup.sh makes on first use.
WITH_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"
ONE_THREAD = UNCLIP_THREADS=1 OMP_NUM_THREADS=1
TWO_WORKERS = -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: help run test test-fast test-all lint setup
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12      the Python to build .venv from (3.11 or newer)"
	@echo "  TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	@echo "                         torch without its CUDA parts, until .venv is deleted"

run: setup  ## set up, train and paint (dvc repro), say where the results are
	@$(WITH_VENV) dvc repro
	@$(WITH_VENV) python tools/summary.py

test: lint  ## set up, lint, check types, run what a change can break: minutes
	@$(WITH_VENV) $(ONE_THREAD) pytest -m 'not extra' $(TWO_WORKERS)

test-fast: setup  ## the fast tests alone, the same as a bare `pytest`
	@$(WITH_VENV) pytest

test-all: lint  ## every test: kills, full disks, measured verbs, sweeps and benchmarks too
	@$(WITH_VENV) $(ONE_THREAD) pytest -m '' $(TWO_WORKERS)

lint: setup  ## ruff check, ruff format --check, mypy
	@$(WITH_VENV) ruff check
	@$(WITH_VENV) ruff format --check
	@$(WITH_VENV) mypy

setup:  ## make .venv and install what pyproject.toml asks for, where that is not done yet
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh tools/setup.sh
