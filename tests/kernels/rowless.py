"""Calls without rows: inputs whose batch has length 0, and the outputs that they must give."""

import torch

from autotune.config import resized


def larger(problem, field):
    """The problem with so much more in `field` that every output of it grows."""
    size = getattr(problem, field)
    return next(other for more in (16 * size, 2 * size) if (other := resized(problem, field, more)) is not None)


def without(problem, field, place="meta"):
    """Inputs on the device `place` whose dimensions that follow `field` have length 0."""
    inputs = []
    for value, other in zip(problem.inputs(0, "meta"), larger(problem, field).inputs(0, "meta"), strict=True):
        if isinstance(value, torch.Tensor):
            shape = [0 if size != grown else size for size, grown in zip(value.shape, other.shape, strict=True)]
            inputs.append(torch.zeros(shape, dtype=value.dtype, device=place))
        else:
            inputs.append(0 if value != other else value)
    return tuple(inputs)


def results(outputs):
    """The outputs of a launcher as a sequence."""
    return outputs if isinstance(outputs, tuple | list) else () if outputs is None else (outputs,)


def like(outputs, grown):
    """Shapes of `outputs` with 0 for each size that differs in `grown`, and their dtypes."""
    pairs = [zip(output.shape, other.shape, strict=True) for output, other in zip(outputs, grown, strict=True)]
    shapes = [[0 if size != more else size for size, more in pair] for pair in pairs]
    return [(torch.Size(shape), output.dtype) for shape, output in zip(shapes, outputs, strict=True)]


def forms(outputs):
    """Shapes and dtypes of outputs."""
    return [(output.shape, output.dtype) for output in results(outputs)]
