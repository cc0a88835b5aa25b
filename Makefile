# `make tune` and `make test` set everything up; TORCH names the torch requirement,
# make tune TORCH='torch==2.13.0', and PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu finds one without CUDA
PYTHON ?= python3
TORCH ?= torch>=2.11
TRITON ?= triton==3.9.0
BIN := .venv/bin
KERNELS := gemm/fp8_block_scaled moe/mxfp4_grouped_gemm norm/rms_norm_quant

.PHONY: setup tune test test-all test-slow oracle check docs bench clean
setup: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q "$(TORCH)" "$(TRITON)"
	$(BIN)/python -m pip install -q -e ".[tune]" --group test --group check
	touch $@

tune: setup  # the three kernels of the first release; `autotune tune` without names takes every kernel
	$(BIN)/autotune tune $(KERNELS) --device mi355x --device b200 --model deepseek-v4-pro --trials 8 --portfolio 1

test: setup  # every kernel, in less than five minutes on two cores
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not thorough and not slow and not gpu"

test-all: setup  # what CI runs
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not gpu"

oracle: setup  # DeepSeek's layers and quantisers as others wrote them, which tests hold ours against
	$(BIN)/python -m pip install -q "transformers>=5.24"
	$(BIN)/python -m pip install -q --no-deps tile_kernels==1.0.0

test-slow: oracle
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup  # into build/site; a broken link fails
	$(BIN)/python -m pip install -q --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup
	$(BIN)/python -m benchmarks.session.compile_overhead

clean:
	rm -rf .venv dist build
