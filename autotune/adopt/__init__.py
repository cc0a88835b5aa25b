"""Kernels of others: read their Triton objects, capture their calls, write them as kernels that can be tuned."""
