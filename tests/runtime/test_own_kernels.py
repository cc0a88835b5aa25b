"""Kernels outside the package: how they are named, found, identified, and what is said of broken files."""

import sys

import pytest

from autotune import identity, registry
from autotune.errors import KernelError, UsageError
from autotune.origin import Origin, of_file

HELPER = "from ._norms import EPS\n"


@pytest.fixture
def cwd(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    return own.parent


@pytest.mark.parametrize("argument", ["own/softmax.py", "own/softmax", "own", "own/", ".", "./own/softmax.py"])
def test_argument_means_kernel_of_a_folder(argument, cwd):
    assert registry.named(argument) == ("own/softmax",)
    assert registry.load("own/softmax").name == "own/softmax"


def test_module_and_launcher_mean_a_kernel(own, monkeypatch):
    monkeypatch.syspath_prepend(own.parent)
    assert registry.named("own.softmax:softmax") == ("own/softmax",)
    kernel = registry.load("own/softmax")
    assert kernel is sys.modules["own.softmax"].softmax
    assert kernel.origin.space == own / "softmax.yaml"


def test_file_of_the_package_keeps_its_name():
    assert registry.named(str(registry.KERNELS / "norm" / "rms_norm.py")) == ("norm/rms_norm",)
    assert "norm/rms_norm" not in registry._named


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("own/absent.py", "autotune new own/absent.py"),
        ("own/absent", "unknown kernel"),
        ("no.such:launcher", "cannot be found"),
        ("json:no_kernel_there:x", "no such module"),
        ("empty", "no Python file of a kernel"),
    ],
)
def test_argument_that_means_nothing_is_refused(argument, words, cwd):
    (cwd / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        registry.named(argument)


def test_two_kernels_of_one_op_of_torch_are_refused(own, tmp_path):
    other = tmp_path / "own_soft" / "max.py"
    other.parent.mkdir()
    other.write_text("")
    (own / "soft_max.py").write_text("")
    registry.named(str(own))
    with pytest.raises(UsageError, match=r"own_soft/max and own/soft_max would both be .*own_soft_max"):
        registry.named(str(other))


def test_two_kernels_of_one_name_are_refused(own, tmp_path):
    other = tmp_path / "elsewhere" / "own"
    other.mkdir(parents=True)
    (other / "softmax.py").write_text("")
    registry.named(str(own))
    with pytest.raises(UsageError, match=r"two kernels are called own/softmax: .*elsewhere.*rename a folder"):
        registry.named(str(other))


def test_name_of_a_shipped_kernel_cannot_be_taken(own, tmp_path):
    taken = own.rename(tmp_path / "norm")
    (taken / "softmax.py").rename(taken / "rms_norm.py")
    with pytest.raises(UsageError, match="two kernels are called norm/rms_norm"):
        registry.named(str(taken))


def test_name_that_is_no_path_of_a_table_is_refused(own):
    with pytest.raises(UsageError, match="letters, digits and _"):
        registry.know([of_file(own.parent / "a b" / "softmax.py")])


BROKEN = {
    "syntax": ("def softmax(:\n", r"softmax\.py:1: SyntaxError: .*; mend the file"),
    "import": ("import torch\nimport no_such_module\n", r"softmax\.py:2: ModuleNotFoundError: .*no_such_module"),
    "raises": ("\n\nSIZE = 1 // 0\n", r"softmax\.py:3: ZeroDivisionError"),
    "nothing": ("x = 1\n", r"softmax\.py: no launcher 'softmax' under @tunable \(it makes none\); give"),
    "exits": ("raise SystemExit(3)\n", r"softmax\.py:1: SystemExit: 3"),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN)
def test_broken_file_is_named_with_line_and_remedy(text, words, own):
    (own / "softmax.py").write_text(text)
    registry.named(str(own))
    with pytest.raises(KernelError, match=words):
        registry.load("own/softmax")


def test_launcher_of_another_name_is_named(own):
    (own / "softmax.py").rename(own / "soft.py")
    registry.named(str(own))
    with pytest.raises(KernelError, match="it makes softmax"):
        registry.load("own/soft")


def test_files_of_a_folder_import_one_another(own):
    (own / "_norms.py").write_text("EPS = 1e-6\n")
    path = own / "softmax.py"
    path.write_text(path.read_text().replace("\n@triton.jit", f"\n{HELPER}\n@triton.jit", 1))
    registry.named(str(own))
    assert registry.load("own/softmax").name == "own/softmax"


def test_folder_with_the_name_of_a_package_imports_its_own_files(own, tmp_path):
    folder = own.rename(tmp_path / "json")
    (name,) = registry.named(str(folder / "softmax.py"))
    try:
        assert registry.load(name).path == folder / "softmax.py"
        assert not hasattr(sys.modules["json"], "softmax")
    finally:
        for module in ("json_2", "json_2.softmax"):
            sys.modules.pop(module)


def test_identity_follows_files_beside_the_kernel(own):
    path = own / "softmax.py"
    text = path.read_text().replace("    y = torch", "    assert EPS\n    y = torch", 1)
    path.write_text(text.replace("\n@dataclass", f"\n{HELPER}\n@dataclass", 1))
    hashes = []
    for value in ("1e-6", "1e-6  # small", "1e-5"):
        (own / "_norms.py").write_text(f"EPS = {value}\n")
        identity._module.cache_clear()
        hashes.append(identity.read(path, "softmax").kernel)
    assert hashes[0] == hashes[1] != hashes[2]


def test_identity_is_the_same_wherever_the_folder_lies(own, tmp_path):
    before = identity.read(own / "softmax.py", "softmax")
    moved = own.rename(tmp_path / "moved")
    identity._module.cache_clear()
    assert identity.read(moved / "softmax.py", "softmax") == before


def test_launcher_that_is_made_elsewhere_is_refused_in_words(own):
    (own / "softmax.py").write_text("softmax = make_softmax()\n")
    with pytest.raises(KernelError, match=r"softmax must stand once, .*under `@tunable"):
        identity.read(own / "softmax.py", "softmax")


@pytest.fixture
def announcing(own, tmp_path, monkeypatch):
    """An installed package whose entry point announces a folder of kernels."""
    (tmp_path / "site").mkdir()
    package = own.rename(tmp_path / "site" / "team_kernels")
    information = tmp_path / "site" / "team-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: team\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{registry.GROUP}]\nteam = team_kernels\nlost = no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry._announced.cache_clear()
    yield package
    registry._announced.cache_clear()


def test_installed_package_announces_its_kernels(announcing):
    assert "team_kernels/softmax" in registry.names()
    kernel = registry.load("team_kernels/softmax")
    assert kernel.launch.__module__ == "team_kernels.softmax"
    assert registry.named(str(announcing / "softmax.py")) == ("team_kernels/softmax",)
    assert Origin(announcing / "softmax.py", "softmax") == kernel.origin
