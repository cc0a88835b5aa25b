"""Records two calls of the softmax beside this file, without a GPU: TRITON_INTERPRET=1 python -m ... calls.json"""

import sys

import torch

import autotune
from examples.adopt import their_softmax

with autotune.capture(sys.argv[1]):
    for shape in ((64, 1000), (5, 512)):
        their_softmax.softmax(torch.randn(shape, dtype=torch.bfloat16))
