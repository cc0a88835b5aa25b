"""Plugins answer an engine's lookups from measured rows, keep every guard of the engine, and never end it."""

import functools
import importlib
import logging
import sys
import types
from dataclasses import replace
from typing import ClassVar

import pytest

from autotune import device, registry, table
from autotune.config import Config, key
from autotune.interchange import engine_rows, plugins
from autotune.interchange.vllm_sglang import BF16_EXPERTS, DENSE, FP8_EXPERTS
from autotune.table import Row, Table
from autotune.tuning import space

GPU = device.named("h200")
MOST = engine_rows.MOST_TOKENS


def dense_lookup(N, K, block_n, block_k):
    return {1: {"theirs": N}}


def experts_lookup(E, N, dtype, block_n=0, block_k=0, per_channel_quant=False, down_moe=False):  # noqa: PLR0913
    return None


def row(m, tier="measured", serves=(), order=None, **changes):
    kernel = registry.load(DENSE)
    problem = kernel.problem(m, 2048, 7168)
    config = Config({**kernel.default(problem, GPU), "BLOCK_M": 64, "PERSISTENT": False, "SPLIT_K": 1, **changes})
    evidence = {"us": 2.0, **({"deterministic": {"order": order}} if order else {})}
    return Row(key(problem), config, tier, evidence, "triton 3.9.0", "c", tuple(("m", *span) for span in serves))


def save(root, *rows, deterministic=False):
    kernel = registry.load(DENSE)
    path = table.path_of(root, GPU.arch, GPU.name, DENSE)
    table.save(Table(DENSE, GPU.arch, GPU.name, kernel.identity.kernel, rows, deterministic), path)


class Registry:
    """SGLang's registry of hooks, as far as a plugin sees it."""

    hooks: ClassVar = {}

    @classmethod
    def register(cls, target, hook, kind):
        assert kind == "around"
        cls.hooks[target] = hook


class Engine:
    """Modules of an engine that is not here, with its lookups and its switch."""

    def __init__(self, monkeypatch, name):
        self.name, self.monkeypatch = name, monkeypatch
        self.homes = {lookup: modules[0] for lookup, modules in plugins.HOMES[name].items()}
        self.put(self.homes[plugins.DENSE], **{plugins.DENSE: functools.lru_cache(dense_lookup)})
        self.put(self.homes[plugins.EXPERTS], **{plugins.EXPERTS: experts_lookup})
        self.invariant = False
        deterministic = types.SimpleNamespace(enable_deterministic_inference=False)
        self.switch = types.SimpleNamespace(deterministic=deterministic)
        if name == "vllm":
            self.put("vllm.envs", VLLM_BATCH_INVARIANT=False)
        else:
            Registry.hooks = {}
            kinds = types.SimpleNamespace(AROUND="around")
            self.put("sglang.srt.plugins.hook_registry", HookRegistry=Registry, HookType=kinds)
            self.put("sglang.srt.runtime_context", get_exec=lambda: self.switch)

    def put(self, module, **contents):
        made = types.ModuleType(module)
        vars(made).update(contents)
        self.monkeypatch.setitem(sys.modules, module, made)
        return made

    def serve_batch_invariantly(self):
        if self.name == "vllm":
            sys.modules["vllm.envs"].VLLM_BATCH_INVARIANT = True
        else:
            self.switch.deterministic.enable_deterministic_inference = True

    def load(self):
        getattr(plugins, self.name)()

    def lookup(self, name):
        """The engine's function as the engine calls it now."""
        original = getattr(sys.modules[self.homes[name]], name)
        hook = Registry.hooks.get(f"{self.homes[name]}.{name}") if self.name == "sglang" else None
        return functools.partial(hook, original) if hook else original

    def dense(self, n=2048, k=7168, block=128):
        return self.lookup(plugins.DENSE)(n, k, block, block)


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "current", lambda: GPU)
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    engine_rows.rows.cache_clear()
    plugins._warn.cache_clear()
    yield
    engine_rows.rows.cache_clear()


@pytest.fixture(params=["vllm", "sglang"])
def engine(request, monkeypatch):
    return Engine(monkeypatch, request.param)


def test_plugin_serves_measured_rows_and_leaves_the_rest(engine, tmp_path, monkeypatch):
    save(tmp_path, row(64), row(128, "modeled"))
    monkeypatch.delenv("AUTOTUNE_TABLES")
    engine.load()
    assert engine.dense() == {1: {"theirs": 2048}}  # nobody asked
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    engine.load()
    assert list(engine.dense()) == [64]
    assert engine.dense(n=4096) == {1: {"theirs": 4096}}
    assert engine.lookup(plugins.EXPERTS)(256, 256, "fp8_w8a8", 128, 128) is None


def test_other_block_shapes_are_left_alone_in_words(engine, tmp_path, caplog):
    save(tmp_path, row(64))
    engine.load()
    for _ in range(2):
        assert engine.dense(block=32) == {1: {"theirs": 2048}}
    assert [said for said in caplog.messages if "32x32" in said] == caplog.messages
    assert len(caplog.messages) == 1


def gone(engine, name):
    delattr(sys.modules[engine.homes[name]], name)


def changed(engine, name):
    setattr(sys.modules[engine.homes[name]], name, lambda N, K, blocks: None)


def broken(engine, name):
    def import_module(module):
        if module == engine.homes[name]:
            raise RuntimeError("no CUDA driver")
        return importlib.import_module(module)

    engine.monkeypatch.setattr(plugins, "import_module", import_module)


@pytest.mark.parametrize("damage", [gone, changed, broken])
@pytest.mark.parametrize("name", [plugins.DENSE, plugins.EXPERTS])
def test_lookup_that_moved_is_one_warning(engine, name, damage, tmp_path, caplog):
    save(tmp_path, row(64))
    damage(engine, name)
    engine.load()
    assert [f"{engine.name}'s {name} is not as autotune knows it" in said for said in caplog.messages] == [True]
    if name == plugins.EXPERTS:
        assert list(engine.dense()) == [64]


@pytest.mark.parametrize("home", plugins.HOMES["sglang"][plugins.DENSE])
def test_every_home_of_sglangs_dense_lookup_is_known(home, tmp_path, monkeypatch):
    sglang = Engine(monkeypatch, "sglang")
    monkeypatch.delitem(sys.modules, sglang.homes[plugins.DENSE])
    sglang.put(home, **{plugins.DENSE: dense_lookup})
    sglang.load()
    assert f"{home}.{plugins.DENSE}" in Registry.hooks


def test_sglang_without_its_registry_is_a_warning(tmp_path, monkeypatch, caplog):
    sglang = Engine(monkeypatch, "sglang")
    del sys.modules["sglang.srt.plugins.hook_registry"].HookRegistry
    sglang.load()
    assert "registry of hooks is not where it was" in caplog.text


def test_vllms_copies_by_name_get_the_hook_once(tmp_path, monkeypatch):
    save(tmp_path, row(64))
    vllm = Engine(monkeypatch, "vllm")
    original = sys.modules[vllm.homes[plugins.DENSE]].get_w8a8_block_fp8_configs
    copy = vllm.put("vllm.elsewhere", get_w8a8_block_fp8_configs=original)
    vllm.load()
    vllm.load()
    assert list(copy.get_w8a8_block_fp8_configs(2048, 7168, 128, 128)) == [64]
    assert copy.get_w8a8_block_fp8_configs.__wrapped__ is original
    copy.get_w8a8_block_fp8_configs.cache_clear()
    assert copy.get_w8a8_block_fp8_configs.__name__ == original.__name__


def test_damaged_table_is_a_warning_and_no_hook(engine, tmp_path, caplog):
    save(tmp_path, row(64))
    table.path_of(tmp_path, GPU.arch, GPU.name, DENSE).write_text("{")
    engine.load()
    assert engine.dense() == {1: {"theirs": 2048}}
    assert "autotune's tables are not used" in caplog.text


WHOLE = (row(64, serves=[(1, 64)], order="x"), row(4096, serves=[(65, MOST)], order="x", num_warps=8))


def served_under_the_switch(engine, tmp_path, *rows, deterministic=True):
    save(tmp_path, *rows, deterministic=deterministic)
    engine.load()
    engine.serve_batch_invariantly()
    found = engine.dense()
    return None if found == {1: {"theirs": 2048}} else list(found)


def test_batch_invariant_serving_gets_one_order_for_all_sizes(engine, tmp_path):
    assert served_under_the_switch(engine, tmp_path, *WHOLE) == [64, 4096]


NOT_SAFE = {
    "tuned freely": (tuple(replace(one, evidence={"us": 2.0}) for one in WHOLE), False),
    "a gap": ((WHOLE[0], row(4096, serves=[(66, MOST)], order="x")), True),
    "smaller than the largest step": ((WHOLE[0], row(4096, serves=[(65, MOST - 1)], order="x")), True),
    "a modeled row between": ((WHOLE[0], row(4096, "modeled", serves=[(65, MOST)], order="x")), True),
    "a row that the engine cannot run": ((WHOLE[0], row(4096, serves=[(65, MOST)], order="x", PERSISTENT=True)), True),
    "two orders in the engine's words": ((WHOLE[0], row(4096, serves=[(65, MOST)], order="x", BLOCK_K=64)), True),
    "two matrix instructions": ((WHOLE[0], row(4096, serves=[(65, MOST)], order="x", BLOCK_M=32)), True),
}


@pytest.mark.parametrize(("rows", "deterministic"), NOT_SAFE.values(), ids=NOT_SAFE)
def test_batch_invariant_serving_keeps_the_engines_guard(engine, tmp_path, rows, deterministic):
    assert served_under_the_switch(engine, tmp_path, *rows, deterministic=deterministic) is None


def test_switch_that_moved_counts_as_on(engine, tmp_path, caplog):
    save(tmp_path, row(64))
    for module, _ in plugins.SWITCHES[engine.name]:
        engine.put(module)
    engine.load()
    assert engine.dense() == {1: {"theirs": 2048}}
    assert "deterministic tables alone" in caplog.text


@pytest.mark.parametrize("place", range(3))
def test_every_place_of_sglangs_switch_is_read(place, monkeypatch):
    sglang = Engine(monkeypatch, "sglang")
    monkeypatch.delattr(sys.modules["sglang.srt.runtime_context"], "get_exec")
    module, path = plugins.SWITCHES["sglang"][place]
    flag = types.SimpleNamespace(enable_deterministic_inference=True)
    function = path.partition("()")[0]
    answer = types.SimpleNamespace(deterministic=flag) if function == "get_exec" else flag
    sglang.put(module, **{function: lambda: answer})
    assert plugins.is_batch_invariant("sglang")
    flag.enable_deterministic_inference = False
    assert not plugins.is_batch_invariant("sglang")


@pytest.mark.parametrize("kernel", [DENSE, FP8_EXPERTS, BF16_EXPERTS])
@pytest.mark.parametrize("gpu", ["h200", "mi355x"])
def test_order_follows_from_what_the_space_names(kernel, gpu):
    loaded = space.load(registry.load(kernel), device.named(gpu))
    assert set(engine_rows.REDUCTION[kernel]) & set(loaded.lists) == set(loaded.reduction)


def test_warnings_are_logged_as_warnings(engine, tmp_path, caplog):
    engine.load()
    engine.dense(block=32)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
