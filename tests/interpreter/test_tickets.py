"""Counters of arrivals: left at zero, one row a stream, none made while a graph is captured."""

from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl

from autotune.kernels import _tickets
from autotune.kernels._tickets import arrives_last, tickets
from autotune.tuning.interpreter.sanitizer import sanitized


@triton.jit
def sum_of_parts(out_ptr, part_ptr, ticket_ptr, PROGRAMS: tl.constexpr):
    program = tl.program_id(0)
    tl.store(part_ptr + program, program + 1)
    if arrives_last(ticket_ptr, PROGRAMS):
        tl.store(out_ptr, tl.sum(tl.load(part_ptr + tl.arange(0, PROGRAMS))))


@pytest.mark.parametrize("order", [iter, reversed])
def test_counter_serves_launch_after_launch(order):
    counter = tickets(1, torch.device("cpu"))
    for _ in range(3):
        out = torch.zeros(1, dtype=torch.int32)
        with sanitized(order):
            sum_of_parts[(8,)](out, torch.empty(8, dtype=torch.int32), counter, PROGRAMS=8)
        assert (out.item(), counter.item()) == (36, 0)


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA device without memory of its own, whose stream and capture the test sets."""
    state = SimpleNamespace(stream=7, capturing=False, made=0)
    zeros = torch.zeros

    def on_host(*size, device, dtype):
        state.made += 1
        return zeros(*size, dtype=dtype)

    monkeypatch.setattr(_tickets, "_pools", {})
    monkeypatch.setattr(_tickets, "_rows", {})
    monkeypatch.setattr(torch, "zeros", on_host)
    stream = lambda index: SimpleNamespace(cuda_stream=state.stream, synchronize=lambda: None)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    return state


def address(count=16):
    return tickets(count, torch.device("cuda:0")).data_ptr()


def test_stream_keeps_its_counters(cuda):
    first = address()
    assert address() == address(4) == first
    cuda.stream = 8
    assert address() != first
    cuda.stream = 7
    assert address() == first
    assert cuda.made == 1


def test_graph_keeps_no_counters_of_its_own(cuda):
    cuda.capturing = True
    assert address() and not _tickets._pools
    cuda.capturing = False
    first = address()
    cuda.capturing = True
    assert address() == first


def test_streams_and_tiles_beyond_the_rows_get_fresh_counters(cuda):
    rows = set()
    for cuda.stream in range(_tickets._STREAMS):
        rows.add(address())
    assert (len(rows), cuda.made) == (_tickets._STREAMS, 1)
    cuda.stream = _tickets._STREAMS
    address()
    cuda.stream = 0
    tickets(_tickets._COUNTERS + 1, torch.device("cuda:0"))
    assert cuda.made == 3
