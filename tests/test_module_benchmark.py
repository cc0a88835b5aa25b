"""The benchmark of DeepSeek modules: which calls stand for a module, and what is fitted on which rows."""

import lzma
import math
import sys

import pytest

from autotune import device, registry
from autotune.errors import UsageError
from autotune.workload.rank import problem_of
from benchmarks.cost_model import module_rows, modules
from benchmarks.cost_model.module_rows import KERNELS, OPS, Shape

HEADER = (
    "gpu,module,engine,version,model,kernel,gemm_dtype,kv_dtype,heads,tp,ep,batch,q_len,past,tokens,routing,"
    "hidden,inter,topk,experts,us,runs,spread\n"
)


def shape(module, context=9000, engine="sglang", decode=True, **sizes):
    model = "V3.2" if module.startswith("dsa") else "V4-Pro"
    heads = 0 if module in ("moe", "mhc_pre", "mhc_post") else 64 if module in KERNELS else 16
    fields = {"gemm_dtype": "fp8_block", "tp": 8, "ep": 1, "requests": 4, "tokens": 4} | sizes
    return Shape(module, model, heads=heads, context=context, decode=decode, always_indexes=engine == "vllm", **fields)


def kernels(wanted):
    return [call.kernel for call in module_rows.calls(wanted, device.named("b200"))]


@pytest.mark.parametrize("module", [*OPS, *KERNELS])
def test_every_module_has_calls_in_decode_and_prefill(module):
    for decode in (True, False):
        assert kernels(shape(module, decode=decode, tokens=8192 if not decode else 4))


def test_indexer_belongs_to_one_kind_of_attention():
    csa, hca = kernels(shape("csa_generation")), kernels(shape("hca_generation"))
    assert csa.count("indexer/paged_logits") == csa.count("attention/sparse_decode") == 1
    assert not [name for name in hca if name.startswith("indexer/")]
    assert hca.count("attention/sparse_decode") == 1


def test_short_context_is_indexed_where_engine_does():
    assert "indexer/paged_logits" not in kernels(shape("csa_generation", 100))
    vllm = kernels(shape("csa_generation", 100, engine="vllm"))
    assert vllm.count("indexer/paged_logits") == vllm.count("indexer/topk") == 1
    assert vllm.count("attention/sparse_decode") == 1


@pytest.mark.parametrize("gemm_dtype", ["bfloat16", "fp8_block"])
@pytest.mark.parametrize("module", [*OPS, *KERNELS])
def test_calls_of_module_are_problems_of_their_kernels(module, gemm_dtype):
    b200 = device.named("b200")
    for call in module_rows.calls(shape(module, gemm_dtype=gemm_dtype), b200):
        assert problem_of(call, registry.load(call.kernel), b200)


def test_bf16_module_quantises_nothing():
    names = kernels(shape("hca_generation", gemm_dtype="bfloat16"))
    assert not [name for name in names if "fp8" in name]
    assert {"gemm/bf16_linear", "gemm/bf16_grouped"} <= set(names)


def test_mix_covers_both_sites_of_layer():
    (call,) = module_rows.calls(shape("mhc_post"), device.named("b200"))
    assert (call.kernel, call.per_step) == ("hyperconnection/mhc_post", 2)


def test_few_tokens_leave_expert_rank_few_choices():
    calls = module_rows.calls(shape("moe", tp=1, ep=8, tokens=2), device.named("b200"))
    w13 = next(call for call in calls if call.op == "w13")
    assert (w13.problem["tokens"], w13.problem["topk"], w13.problem["experts"]) == (1, 2, 48)


def test_window_is_no_longer_than_context():
    calls = module_rows.calls(shape("hca_generation", context=17), device.named("b200"))
    attention = next(call for call in calls if call.op == "attention128")
    assert attention.problem["keys"] == 17


def row(module, tokens, us, engine="sglang"):
    return f"b200,{module},{engine},1,V4-Pro,k,,,,,,,,,{tokens},,7168,,,,{us},1,\n"


def test_factor_is_fitted_on_half_of_shapes(tmp_path):
    path = tmp_path / module_rows.FILE
    with lzma.open(path, "wt") as file:
        file.write(HEADER + "".join(row("mhc_post", 8 * (at + 1), 30) for at in range(40)))
    results = modules.judged(module_rows.load(path))
    used = [each for each in results if each.fits]
    assert 5 < len(used) < 35
    logs = sorted(each.log_ratio for each in used)
    ((_, fitted),) = modules.factors(results).items()
    assert logs[0] < fitted < logs[-1]
    assert fitted == pytest.approx((logs[(len(logs) - 1) // 2] + logs[len(logs) // 2]) / 2)


def test_table_names_modules_left_out(tmp_path, monkeypatch, capsys):
    with lzma.open(tmp_path / module_rows.FILE, "wt") as file:
        file.write(HEADER + "".join(row("mhc_pre", 2**at, 30 + at) for at in range(13)) + row("megamoe_context", 8, 9))
    monkeypatch.setattr(sys, "argv", ["modules", "--data", str(tmp_path)])
    modules.main()
    text = capsys.readouterr().out
    assert "megamoe: 1 rows; one kernel that also dispatches" in text
    assert "all decode rows of the other half" in text
    assert math.isfinite(
        float(next(line for line in text.splitlines() if line.startswith("mhc_pre sglang")).split()[3])
    )


def test_file_without_a_column_is_refused(tmp_path):
    with lzma.open(tmp_path / module_rows.FILE, "wt") as file:
        file.write(HEADER.replace("heads,", "") + "\n")
    with pytest.raises(UsageError, match="lacks the columns heads; see"):
        module_rows.load(tmp_path / module_rows.FILE)


def test_absent_data_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["modules", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as leaving:
        modules.main()
    assert leaving.value.code == 0
    assert "is absent; give its folder with --data" in capsys.readouterr().out
