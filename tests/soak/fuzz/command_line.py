"""Command lines: `NAME=value ... COMMAND ARGUMENT ...`; nothing that takes a process, a GPU or a session is started."""

import contextlib
import io
import os
from unittest import mock

from damage import parsed

from autotune import cli, runtime
from autotune.errors import UsageError
from autotune.tuning import space

LINES = [
    "explain gemm/fp8_block_scaled m=64,n=2048,k=7168 --device mi355x --json",
    "AUTOTUNE_TABLES=tables explain moe/combine tokens=64,topk=8,dim=7168,weighted=true,shared=false --device h100",
    "AUTOTUNE_TABLES=tables show norm/rms_norm --device b200 --json",
    "list --json",
    "devices",
    "AUTOTUNE_TABLES=tables AUTOTUNE_STATE=state lint --model deepseek-v4-pro --device mi355x --tp 8 --scenario 8k1k",
    "tune norm/rms_norm --device mi355x --problem rows=64,cols=1536 --trials 3 --jobs 2 --seed 1 --until-gain 2.5",
    "AUTOTUNE_STATE=state tune gemm/fp8_block_scaled --device h100 --problem m=1,n=512,k=7168 --deterministic",
    "tune moe/fp8_grouped_gemm --device b200 --model deepseek-v4-pro --tp 8 --inputs routing=zipf:1.2 --minutes 1.5",
    "tune norm/rms_norm --device mi355x --problem rows=64,cols=1536 --bench simulated:7 --tables tables",
    "predict norm/rms_norm rows=64,cols=1536 --device mi355x --top 5 --compile 2",
    "compile norm/rms_norm rows=64,cols=1536 --target gfx950,h100 --config ROWS=2,BLOCK=512",
    "validate norm/rms_norm --device mi355x",
    "check norm/rms_norm --device mi355x --against triton==3.9.0 --baseline triton==3.8.0 --jobs 2",
    "bisect norm/rms_norm --row rows=64,cols=1536 --device mi355x --good triton==3.7.1 --bad triton==3.9.0",
    "import vllm missing.json --model deepseek-v4-pro --device h100 --key m,n,k --dry-run",
    "export t4 gemm/fp8_block_scaled --device mi355x --tables tables --output out",
    "bundle norm/rms_norm --device mi355x --model deepseek-v4-pro --tp 8 --jobs 2 --output out",
    "doctor --bench simulated:3 --device mi355x",
]


def started(*args, **kwargs):
    raise UsageError("would start a process")


def few(loaded, kernel, problem, device):
    return [config for config in loaded.configs[:8] if kernel.reject(problem, config, device) is None]


def read_line(text, folder):
    """Exit code 0, 1 or 2, nothing raised, and nothing written."""
    names, words = split(text)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    env = {"AUTOTUNE_TABLES": str(home / "tables"), "AUTOTUNE_STATE": str(home / "state"), **names}
    runtime.forget()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(home))
        stack.enter_context(mock.patch.dict(os.environ, env))
        for place in (
            "subprocess.run", "subprocess.Popen", "autotune.tuning.workers.process.Isolated.call", "tempfile.mkstemp",
            "autotune.tuning.session.session.Session.run", "pathlib.Path.mkdir", "autotune.table.save",
        ):  # fmt: skip
            stack.enter_context(mock.patch(place, started))
        stack.enter_context(mock.patch.object(space, "feasible", few))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        said = stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            code = cli.main(words)
        except SystemExit as leaving:  # argparse
            code = leaving.code
    assert code in (0, 1, 2), code
    assert not list(home.iterdir())
    if code == 2 and "would start a process" not in said.getvalue():
        assert said.getvalue(), "exit code 2 without a word"
        raise UsageError("refused")


def split(text):
    """Environment and arguments; what no shell could pass on is left out."""
    listed = parsed(text) if text.startswith("[") else text.split(" ")
    words = [str(word).replace("\x00", "") for word in listed or () if word not in ("", None)]
    names = {}
    while words and words[0].startswith("AUTOTUNE_") and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        names[name] = value.encode("utf-8", "ignore").decode()
    return names, words
