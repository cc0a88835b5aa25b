"""Names that the interpreter lacks are told before any config is blamed for them."""

import pytest
import triton
from triton.runtime import interpreter

from autotune import device, registry
from autotune.config import key
from autotune.errors import ToolchainError, UsageError
from autotune.tuning import space
from autotune.tuning.interpreter.corrections import correct_interpreter
from autotune.tuning.jobs import validate_job
from autotune.tuning.workers.worker import Job


def test_missing_private_names_are_told_with_remedy(monkeypatch):
    """Names of the sanitizer too, of which the corrections make no use."""
    monkeypatch.delattr(interpreter, "_implicit_cvt")
    monkeypatch.delattr(interpreter.InterpreterBuilder, "create_masked_store")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    with pytest.raises(
        ToolchainError, match=r"no _implicit_cvt, InterpreterBuilder.create_masked_store; .*pip install"
    ):
        correct_interpreter()


def test_no_config_is_blamed_for_interpreter_that_lacks_names(monkeypatch):
    monkeypatch.delattr(interpreter, "_patch_lang")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    kernel, gpu = registry.load("norm/rms_norm"), device.named("h200")
    problem = space.load(kernel, gpu).check[0]
    with pytest.raises(ToolchainError, match="no _patch_lang"):
        validate_job(Job(kernel.name, key(problem), kernel.default(problem, gpu), gpu.name))


def test_without_interpreter_mode_it_is_usage_error():
    with pytest.raises(UsageError, match="TRITON_INTERPRET=1"):
        correct_interpreter()
