"""Who may import whom, and what serving must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import autotune
from autotune import packages

ROOT = Path(autotune.__file__).resolve().parent

# A module imports only from its own layer's modules and from layers above it.
LAYERS = [
    {"errors"},
    {"arch"},
    {"files", "state", "foreign_text", "packages", "ranks", "toolchain"},
    {"device_record"},
    {"device_identity", "device_names", "derived_device"},
    {"config", "device"},
    {"own_devices"},
    {"evidence", "table_record"},
    {"table_checks"},
    {"table_format", "table_format_1"},
    {"table"},
    {"row_check"},
    {"runtime"},
    {"misses", "bundle"},
    {"inputs"},
    {"origin"},
    {"launcher_signature", "torch_ops", "identity", "declared_problem", "choices"},
    {"kernel"},
    {"kernels"},
    {"registry"},
    {"own_parts"},
    {"workload"},
    {"tuning"},
    {"adopt"},
    {"estimate"},
    {"report"},
    {"interchange"},
    {"check"},
    {"cli"},
]


def layer(name):
    return next(i for i, names in enumerate(LAYERS) if name in names)


def modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for inner in ast.walk(node):
                inner.__dict__["typing_only"] = True
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.__dict__.get("typing_only"):
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "autotune" else [node.module]
        elif isinstance(node, ast.Import) and not node.__dict__.get("typing_only"):
            names = [a.name for a in node.names]
        yield from (name for name in names if name.startswith("autotune."))


def imports(path):
    return (name.split(".")[1] for name in modules(path))


def test_imports_point_one_way():
    wrong = []
    sources = [*ROOT.rglob("*.py"), *(ROOT.parent / "kernels").rglob("*.py")]
    for path in sources:
        if path.name in ("__init__.py", "__main__.py") and path.parent == ROOT:
            continue
        if path.name == "_template.py":  # written as a user's file is: by the public names
            continue
        home = path.relative_to(ROOT).parts[0] if path.is_relative_to(ROOT) else "kernels"
        here = layer(home.removesuffix(".py"))
        wrong += [f"{path}: imports {name}" for name in imports(path) if layer(name) > here]
    assert len(sources) > 25
    assert not wrong


# The rooms of a tuning session, in the order of its stages.
ROOMS = [
    *("arrays", "space", "workers", "compilation", "counted_work", "search", "cost_model"),
    *("interpreter", "validation", "measurement", "jobs", "session"),
]


def test_rooms_of_tuning_import_one_way():
    wrong, seen = [], set()
    for path in (ROOT / "tuning").glob("*/*.py"):
        here = ROOMS.index(path.parent.name)
        seen.add(path.parent.name)
        for name in modules(path):
            parts = name.split(".")
            if parts[:2] == ["autotune", "tuning"] and len(parts) > 2 and ROOMS.index(parts[2]) > here:
                wrong.append(f"{path}: imports {name}")
    assert seen == set(ROOMS) - {"arrays", "space", "counted_work", "jobs"}
    assert not wrong


def test_kernels_import_no_tuning_and_are_reached_by_name():
    assert "kernels" not in set(imports(ROOT / "registry.py"))


def test_serving_loads_no_tuner():
    code = "import autotune.runtime, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    modules = loaded.stdout.split()
    assert "autotune.runtime" in modules
    banned = ("autotune.tuning", *(name for extra in packages.EXTRAS.values() for name in extra))
    assert not [m for m in modules if m.startswith(banned)]
    assert not [line for line in loaded.stderr.splitlines() if line.split("|")[-1].strip().startswith(banned)]


def test_calling_kernel_loads_no_tuner():
    imported = "autotune.kernels.gemm, autotune.kernels.norm, examples.short_softmax"
    code = f"import {imported}, sys; print('\\n'.join(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    modules = ended.stdout.split()
    assert not [m for m in modules if m.startswith(("optuna", "pandas", "yaml", "autotune.tuning"))]


def test_public_names():
    names = ["Config", "Device", "Kernel", "capture", "choose", "explain", "problem", "serve", "tunable"]
    assert autotune.__all__ == names
    for name in autotune.__all__:
        assert getattr(autotune, name) is not None


def test_three_trees_share_their_names():
    kernels = {
        p.relative_to(ROOT.parent / "kernels").with_suffix("") for p in (ROOT.parent / "kernels").glob("*/[!_]*.py")
    }
    spaces = {
        p.relative_to(ROOT.parent / "search_spaces").with_suffix("")
        for p in (ROOT.parent / "search_spaces").glob("*/*.yaml")
    }
    assert kernels == spaces


HEAVY = ["torch", "triton", "optuna", "pandas", "scipy", "numpy"]


def heavy_modules_after(words):
    """Heavy packages that a fresh process has imported at the end of a command line, and its exit code."""
    code = f"""
import contextlib, os, sys
from autotune.cli import main
with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
    try:
        code = main({words})
    except SystemExit as leaving:
        code = leaving.code
print(code, *[name for name in {HEAVY} if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, *loaded = ended.stdout.split()
    return set(loaded), int(exit_code)


PROBLEM = "m=64,n=2048,k=7168,dtype=e4m3fn"


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["--help"], 0),
        ([], 2),
        (["tune", "--help"], 0),
        (["nonsense"], 2),
        (["tune", "--trials", "many"], 2),
        (["tune", "--trials", "0"], 2),
        (["tune", "gemm/no_such_kernel", "--device", "mi355x"], 2),
        (["show", "--device", "no_such_device"], 2),
        (["explain", "gemm/no_such_kernel", PROBLEM, "--device", "mi355x"], 2),
        (["devices"], 0),
        (["devices", "--json"], 0),
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(words, exit_code):
    assert heavy_modules_after(words) == (set(), exit_code)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_explain_and_show_import_torch_at_most(options):
    for words in (["explain", "gemm/fp8_block_scaled", PROBLEM], ["show", "gemm/fp8_block_scaled"]):
        loaded, exit_code = heavy_modules_after([*words, "--device", "mi355x", *options])
        assert exit_code == 0
        assert loaded <= {"torch", "triton", "numpy"}, words


def test_optuna_keeps_verbosity_that_its_user_chose():
    code = """
import logging, optuna
from autotune.tuning.search.study import Search
logged = []
optuna.logging._get_library_root_logger().addFilter(lambda record: logged.append(record) or True)
Search(optuna.storages.InMemoryStorage(), "one", {"BLOCK": [16, 32]}, 0)
assert optuna.logging.get_verbosity() == optuna.logging.INFO
assert not logged
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_json_for_other_readers_refuses_what_json_lacks():
    folders = [ROOT / "interchange", ROOT / "cli"]
    sources = [*(path for folder in folders for path in folder.rglob("*.py")), ROOT / "table.py", ROOT / "misses.py"]
    sources += [ROOT / "bundle.py", ROOT / "check/html_report.py"]
    lax = [
        f"{path}:{call.lineno}"
        for path in sources
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("json.dumps", "json.dump")
        if "allow_nan" not in {keyword.arg for keyword in call.keywords} and ast.unparse(call.args[0]) != "name"
    ]
    assert len(sources) > 20
    assert not lax
