# Everything runs inside .venv, which tools/setup.sh makes on first use.
WITH_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

.PHONY: help run test test-fast test-faults lint setup
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

test: lint  ## set up, lint, and run every test but those of test-faults
	@$(WITH_VENV) UNCLIP_THREADS=1 OMP_NUM_THREADS=1 pytest -m 'not faults' -n 2 --dist loadscope --no-loadscope-reorder

test-fast: setup  ## the fast tests alone, the same as a bare `pytest`
	@$(WITH_VENV) pytest

test-faults: setup  ## kill and damage again and again: many minutes, apart from `make test`
	@$(WITH_VENV) UNCLIP_THREADS=1 OMP_NUM_THREADS=1 pytest -m faults -n 2 --dist loadscope

lint: setup  ## ruff check, ruff format --check, mypy
	@$(WITH_VENV) ruff check
	@$(WITH_VENV) ruff format --check
	@$(WITH_VENV) mypy

setup:  ## make .venv and install what pyproject.toml asks for, where that is not done yet
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh tools/setup.sh
