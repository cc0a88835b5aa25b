"""Wrong results that follow from a division below zero: right if the kernel divided as Python does, so it is named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from autotune.errors import Defect, WrongResult
from autotune.tuning.interpreter.divisions import Division


def check_divisions(differing: Mapping[str, Division], proved: Callable[[Collection[str]], object]) -> None:
    """Raises Defect if the result is right where `differing` divisions, by place, round down as Python's do.

    `proved` runs the kernel with Python's rule at some places, and raises WrongResult where the result is still wrong.
    The division to blame is the first that alone makes it right, or else the first of all.
    """

    def is_right(places: Collection[str]) -> bool:
        try:
            proved(places)
        except WrongResult:
            return False
        return True

    if not differing or not is_right(differing.keys()):
        return
    place = next((place for place in differing if is_right({place})), next(iter(differing)))
    division = differing[place]
    written = f"{division.dividend} {division.operator} {division.divisor}"
    more = (
        f"{written} is {division.compiled} on a GPU, as in C, and the result would be right with {division.python}, as "
        "in Python; make the dividend positive first"
    )
    raise Defect("divides below zero", place, division.program, division.operator, division.lane, more)
