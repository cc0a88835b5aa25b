# `make tune` and `make test` set everything up; TORCH names the torch requirement: make tune TORCH='torch==2.13.0'
PYTHON ?= python3
TORCH ?= torch>=2.13
TRITON ?= triton==3.9.0
BIN := .venv/bin

.PHONY: setup tune test test-slow check bench clean
setup: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q "$(TORCH)" "$(TRITON)"
	$(BIN)/python -m pip install -q -e . --group test --group check
	touch $@

tune: setup
	$(BIN)/autotune tune --device mi355x --device b200 --model deepseek-v4-pro --scenario 8k1k --tp 8

test: setup
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/compile_overhead.py

clean:
	rm -rf .venv dist build
