"""Packages whose Triton kernels the exam reads."""

WHEELS = {
    "liger-kernel": "liger_kernel",
    "fla-core": "fla",
    "torchao": "torchao",
    "sglang": "sglang",
    "vllm": "vllm",
}
"""Module of each wheel."""
