"""One defect of each kind of misuse of memory, planted in six kernels: which line, and what must be named."""

BOUNDS = "out of bounds"
UNWRITTEN = "reads memory that nothing wrote"
TWICE = "two programs write one address"
RACE = "reads what another program of the launch writes"
HOLES = "output not entirely written"
LANES = "two lanes write one address"

# kernel -> (kind, argument, text, its replacement); `# planted` marks the line that must be named.
PLANTED = {
    "norm/rms_norm": [
        (BOUNDS, "x_ptr", "h = load_sum(x_ptr, residual_ptr, offs, mask, HAS_RESIDUAL)\n        weight",
         "h = tl.load(x_ptr + offs, mask=in_rows, other=0.0).to(tl.float32)  # planted\n        weight"),
        (BOUNDS, "weight_ptr", "weight_ptr + col, mask=col < cols, other=0.0)",
         "weight_ptr + col + 1, mask=col < cols, other=0.0)  # planted"),
        (BOUNDS, "y_ptr", "tl.store(y_ptr + offs, ", "tl.store(y_ptr + offs + cols, "),
        (UNWRITTEN, "y_ptr", "h = load_sum(x_ptr, residual_ptr, offs, mask, HAS_RESIDUAL)\n        weight",
         "h = tl.load(y_ptr + offs, mask=mask, other=0.0).to(tl.float32)  # planted\n        weight"),
        (TWICE, "y_ptr", "tl.store(y_ptr + offs, ", "tl.store(y_ptr + offs % cols, "),
        (RACE, "y_ptr", "weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0)",
         "weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0) + 0 * tl.sum(tl.load("
         "y_ptr + offs - cols, mask=mask & (row > 0)[:, None], other=0.0))  # planted"),
        (HOLES, "output 0", "weight[None, :]).to(tl.bfloat16), mask=mask)",
         "weight[None, :]).to(tl.bfloat16), mask=mask & (col > 0)[None, :])"),
        (LANES, "y_ptr", "tl.store(y_ptr + offs, ", "tl.store(y_ptr + offs // 2 * 2, "),
    ],
    "moe/combine": [
        (BOUNDS, "x_ptr", "x = tl.load(x_ptr + slot[:, None] * dim + col[None, :], mask=mask",
         "x = tl.load(x_ptr + slot[:, None] * dim + col[None, :] + dim, mask=mask"),
        (BOUNDS, "weights_ptr", "weights_ptr + slot, mask=in_rows, other=0.0", "weights_ptr + slot + 1, mask=in_rows"),
        (BOUNDS, "out_ptr", "tl.store(out_ptr + offs, total.to(tl.bfloat16), mask=mask)",
         "tl.store(out_ptr + offs, total.to(tl.bfloat16), mask=in_rows[:, None])  # planted"),
        (UNWRITTEN, "out_ptr", "total = tl.zeros((ROWS, BLOCK), dtype=tl.float32)",
         "total = tl.load(out_ptr + offs, mask=mask, other=0.0).to(tl.float32)  # planted"),
        (TWICE, "out_ptr", "tl.store(out_ptr + offs, ", "tl.store(out_ptr + offs % dim, "),
        (RACE, "out_ptr", "tl.store(out_ptr + offs, total.to(tl.bfloat16), mask=mask)",
         "tl.store(out_ptr + offs, total.to(tl.bfloat16), mask=mask)\n"
         "    tl.load(out_ptr + offs - dim, mask=mask & (token > 0)[:, None])  # planted"),
        (HOLES, "output 0", "total.to(tl.bfloat16), mask=mask)", "total.to(tl.bfloat16), mask=mask & (offs > 4))"),
        (LANES, "out_ptr", "tl.store(out_ptr + offs, ", "tl.store(out_ptr + offs // 4 * 4, "),
    ],
    "hyperconnection/mhc_post": [
        (BOUNDS, "comb_ptr", "stream[None, :] * 4 + j, mask=in_tokens[:, None]", "stream[None, :] * 4 + j + 1, mask="
         "in_tokens[:, None]"),
        (BOUNDS, "post_ptr", "post = tl.load(post_ptr + token * 4 + j", "post = tl.load(post_ptr + token * 4 + j + 4"),
        (BOUNDS, "out_ptr", "tl.store(out_ptr + (token * 4 + j)[:", "tl.store(out_ptr + (token * 4 - j)[:"),
        (UNWRITTEN, "out_ptr", "residual = tl.load(residual_ptr + offs", "residual = tl.load(out_ptr + offs"),
        (TWICE, "out_ptr", "tl.store(out_ptr + (token * 4 + j)[:, None] * dim",
         "tl.store(out_ptr + (token // 64 * 4 + j)[:, None] * dim"),
        (RACE, "out_ptr", "mixed.to(tl.bfloat16), mask=mask)",
         "mixed.to(tl.bfloat16), mask=mask)\n        tl.load(out_ptr + ((token - BLOCK_M) * 4 + j)[:, None] * dim"
         " + col[None, :], mask=mask & (token >= BLOCK_M)[:, None])  # planted"),
        (HOLES, "output 0", "for j in tl.static_range(4):", "for j in tl.static_range(3):"),
        (LANES, "out_ptr", "tl.store(out_ptr + (token * 4 + j)[:, None] * dim + col[None, :]",
         "tl.store(out_ptr + (token * 4 + j)[:, None] * dim + col[None, :] % 16"),
    ],
    "moe/swiglu_quant": [
        (BOUNDS, "x_ptr", "tl.load(at + inner, mask=mask", "tl.load(at + 2 * inner, mask=mask"),
        (BOUNDS, "weight_ptr", "weight_ptr + row, mask=in_rows, other=0.0", "weight_ptr + row + 1, mask=in_rows"),
        (BOUNDS, "scale_ptr", "group[None, :], scale, mask=inside)", "group[None, :] + 1, scale, mask=inside)"),
        (UNWRITTEN, "q_ptr", "y = gate * tl.sigmoid(gate) * up",
         "y = gate * tl.sigmoid(gate) * up + tl.load(q_ptr + row[:, None] * inner + col[None, :], mask=mask)"
         ".to(tl.float32)  # planted"),
        (TWICE, "q_ptr", "tl.store(q_ptr + row[:, None] * inner", "tl.store(q_ptr + 0 * row[:, None] * inner"),
        (RACE, "q_ptr", "q.to(q_ptr.dtype.element_ty), mask=mask)",
         "q.to(q_ptr.dtype.element_ty), mask=mask)\n    tl.load(q_ptr + (row - ROWS)[:, None] * inner + col[None, :],"
         " mask=mask & (row >= ROWS)[:, None])  # planted"),
        (HOLES, "output 1", "group = tl.program_id(1) * (BLOCK // GROUP) + tl.arange",
         "group = tl.program_id(1) * (BLOCK // GROUP) + 1 + tl.arange"),
        (LANES, "q_ptr", "tl.store(q_ptr + row[:, None] * inner + col[None, :]",
         "tl.store(q_ptr + row[:, None] * inner + col[None, :] // 2"),
    ],
    "gemm/fp8_block_scaled": [
        (BOUNDS, "a_ptr", "a = tl.load(a_ptrs)", "a = tl.load(a_ptrs + k)"),
        (BOUNDS, "b_scale_ptr",
         "tl.load(b_tile_row + start // 128)", "tl.load(b_tile_row + start // 128 + 8)"),
        (BOUNDS, "out_ptr", f"{16 * ' '}tl.store(out_ptr + offs, total",
         f"{16 * ' '}tl.store(out_ptr + offs + 1, total"),
        (UNWRITTEN, "partial_ptr", "if arrives_last(", "if not arrives_last("),
        (TWICE, "partial_ptr", "tl.store(partial_ptr + split * elements + offs, acc",
         "tl.store(partial_ptr + offs, acc"),
        (RACE, "partial_ptr", "tl.debug_barrier()  # every lane has stored before one lane says so", "pass"),
        (RACE, "partial_ptr", "sem=\"acq_rel\"", "sem=\"relaxed\""),
        (RACE, "partial_ptr", "sem=\"acq_rel\"", "sem=\"acquire\""),
        (RACE, "partial_ptr", "sem=\"acq_rel\"", "sem=\"release\""),
        (HOLES, "output 0", f"{16 * ' '}tl.store(out_ptr + offs, total.to(out_ptr.dtype.element_ty), mask=inside)",
         f"{16 * ' '}tl.store(out_ptr + offs, total.to(out_ptr.dtype.element_ty), mask=inside & (offs > 3))"),
        (LANES, "partial_ptr", "tl.store(partial_ptr + split * elements + offs, acc",
         "tl.store(partial_ptr + split * elements + offs // 2 * 2, acc"),
    ],
    "sampling/greedy": [
        (BOUNDS, "logits_ptr", "mask=col < vocab, other=float(\"-inf\"))", "mask=col <= vocab, other=float(\"-inf\"))"),
        (BOUNDS, "value_ptr", "value = tl.load(value_ptr + row * PARTS + part)",
         "value = tl.load(value_ptr + row * PARTS + part + 1)  # planted"),
        (BOUNDS, "out_ptr", "tl.store(out_ptr + row, ", "tl.store(out_ptr + row - 1, "),
        (UNWRITTEN, "index_ptr", "    tl.store(index_ptr + row * PARTS + part, ",
         "    tl.load(index_ptr + row * PARTS + part)  # planted\n    tl.store(index_ptr + row * PARTS + part, "),
        (TWICE, "value_ptr", "tl.store(value_ptr + row * PARTS + part, most)",
         "tl.store(value_ptr + row * PARTS, most)  # planted"),
        (RACE, "value_ptr", "    tl.store(value_ptr + row * PARTS + part, most)",
         "    tl.store(value_ptr + row * PARTS + part, most)\n    tl.load(value_ptr + row * PARTS + part - PARTS,"
         " mask=row > 0)  # planted"),
        (HOLES, "output 0", "_first_best(value, index)[1])", "_first_best(value, index)[1], mask=row > 0)"),
        (LANES, "value_ptr", "tl.store(value_ptr + row * PARTS + part, most)",
         "tl.store(value_ptr + row * PARTS + part + tl.zeros((BLOCK,), dtype=tl.int32), best)  # planted"),
    ],
}  # fmt: skip
