"""Memory that a launch may access: an address space per pointer argument, and checks of every access.

An argument's pointers start at an address of its own, 8 TB from any other's. So an address says by itself which
argument it came from, whatever arithmetic made it, and one past an end never lands in a neighbour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from autotune.errors import Defect
from autotune.tuning.interpreter.program_order import Announcements
from autotune.tuning.interpreter.shadows import Argument, Read, Shadow

_SPACE_BITS = 44
_ALIGNMENT = 256
_LANE_BITS = 32
_SCALAR = 1 << 31


class Memory:
    """All tensors that the launches of one call touch."""

    def __init__(self) -> None:
        self._shadows: dict[int, Shadow] = {}
        self._arguments: dict[int, Argument] = {}
        self.program: tuple[int, ...] = (0, 0, 0)
        self.grid: tuple[int, ...] = (1, 1, 1)
        self._announcements = Announcements()
        self._period = 0
        """Number of barriers so far; each program begins with one."""

    def enter(self, program: tuple[int, ...]) -> None:
        """A program of the launch starts."""
        self.program = program
        self._announcements.enter()
        self.barrier()

    def barrier(self) -> None:
        """All lanes of the program have reached this point: what they stored before, any of them may read."""
        self._period += 1

    def atomic(self, addresses: Any, semantics: str) -> None:  # noqa: ANN401
        """The program passes an atomic at `addresses`, after which its lanes go on together."""
        if addresses.size == 1:
            self._announcements.atomic(int(addresses[0]), semantics, self._number(), self._period)
        self.barrier()

    def unwritten(self, tensor: Tensor) -> None:
        """`tensor` is fresh and holds nothing yet."""
        shadow = Shadow(tensor, tensor.element_size(), version=tensor._version)
        shadow.written = np.zeros(shadow.units, dtype=bool)
        self._shadows[tensor.untyped_storage().data_ptr()] = shadow

    def begin(self, arguments: dict[str, Tensor], grid: tuple[int, ...]) -> dict[str, int]:
        """A launch starts; the addresses that its pointer arguments get."""
        self.grid = grid
        self._announcements = Announcements()
        self._arguments = {}
        for index, (name, tensor) in enumerate(arguments.items(), 1):
            # The alignment that the real address has is what vectorised accesses rely on.
            base = (index << _SPACE_BITS) + (1 << (_SPACE_BITS - 1)) + tensor.data_ptr() % _ALIGNMENT
            extent = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
            size = tensor.element_size()
            start = int(tensor.storage_offset()) * size
            nbytes = extent * size if tensor.numel() else 0
            shadow = self._shadow(tensor)
            self._arguments[index] = Argument(name, base, tensor.data_ptr(), nbytes, size, start, shadow)
        return {argument.name: argument.base for argument in self._arguments.values()}

    def end(self) -> None:
        """A launch ends. Raises Defect where a program read what another one of the launch stored."""
        for shadow in {id(a.shadow): a.shadow for a in self._arguments.values()}.values():
            writer, reads = shadow.writer, shadow.reads
            shadow.writer, shadow.lane, shadow.period, shadow.reads = None, None, None, []
            for read in reads if writer is not None else ():
                there = writer[read.at]
                raced = (there != 0) & (there != read.number)
                if read.known is not None:
                    raced &= there != read.known
                if raced.any():
                    i = int(raced.argmax())
                    offset = (int(read.at[i]) * shadow.unit - read.argument.start) // read.argument.itemsize
                    more = f"which program {self._program(int(there[i]))} stores: the result depends on their order"
                    kind = "reads what another program of the launch writes"
                    raise Defect(kind, read.place, read.program, read.argument.name, offset, more)

    def load(self, addresses: Any, mask: Any, size: int, place: str, *, atomic: bool = False) -> Any:  # noqa: ANN401
        """Real addresses of a load of `size` bytes each. Raises Defect."""
        for argument, offsets in self._reached(addresses, mask, size, ("loads", place)):
            shadow = argument.shadow
            at = shadow.at(offsets + argument.start, size)
            if shadow.written is not None and not shadow.written[at].all():
                i = int((~shadow.written[at]).argmax()) * offsets.size // at.size
                self._fail("reads memory that nothing wrote", place, argument, int(offsets[i]), "of torch.empty")
            if shadow.lane is not None and not atomic:
                self._check_lanes(argument, at, offsets, self._stamps(addresses, mask, argument, at.size), place)
            if not atomic:
                known = None
                if shadow.writer is not None:
                    known = self._announcements.known(shadow.writer[at], shadow.period[at])
                shadow.reads.append(Read(self._number(), self.program, place, argument, at, known))
        return self._real(addresses, mask)

    def store(self, addresses: Any, mask: Any, size: int, place: str, *, atomic: bool = False) -> Any:  # noqa: ANN401
        """Real addresses of a store of `size` bytes each. Raises Defect."""
        for argument, offsets in self._reached(addresses, mask, size, ("stores to", place)):
            shadow = argument.shadow
            at = shadow.at(offsets + argument.start, size)
            if shadow.writer is None:
                shadow.writer = np.zeros(shadow.units, dtype=np.int32)
                shadow.lane = np.zeros(shadow.units, dtype=np.int64)
                shadow.period = np.zeros(shadow.units, dtype=np.int64)
            if not atomic:
                there = shadow.writer[at]
                raced = (there != 0) & (there != self._number())
                if raced.any():
                    i = int(raced.argmax())
                    other = self._program(int(there[i]))
                    offset = int(offsets[i * offsets.size // at.size])
                    self._fail("two programs write one address", place, argument, offset, f"as program {other} did")
                shadow.writer[at] = self._number()
                shadow.period[at] = self._period
                stamps = self._stamps(addresses, mask, argument, at.size)
                shadow.lane[at] = stamps
                shared = shadow.lane[at] != stamps
                shadow.lane[at[shared]] = 0
            if shadow.written is not None:
                shadow.written[at] = True
        return self._real(addresses, mask)

    def named(self, address: int) -> tuple[str, int]:
        """Argument and element that an address belongs to."""
        argument = self._arguments[address >> _SPACE_BITS]
        return argument.name, (address - argument.base) // argument.itemsize

    def never_written(self, tensor: Tensor) -> int | None:
        """The first element of a returned tensor that no program wrote."""
        shadow = self._shadow(tensor)
        if shadow.written is None or shadow.written.all():
            return None
        size = tensor.element_size()
        first = int((~shadow.written).argmax()) * shadow.unit - tensor.storage_offset() * size
        return first // size if 0 <= first < tensor.numel() * size else None

    def _shadow(self, tensor: Tensor) -> Shadow:
        shadow = self._shadows.setdefault(
            tensor.untyped_storage().data_ptr(), Shadow(tensor, tensor.element_size(), version=tensor._version)
        )
        if shadow.version != tensor._version:
            shadow.written = None  # a torch operation filled it
        return shadow

    def _reached(self, addresses: Any, mask: Any, size: int, act: tuple[str, str]) -> list[tuple[Argument, Any]]:  # noqa: ANN401
        """Byte offsets into each argument that the active lanes touch."""
        active = addresses.ravel() if mask.all() else addresses[mask]
        if not active.size:
            return []
        spaces = active >> np.uint64(_SPACE_BITS)
        low, high = int(spaces.min()), int(spaces.max())
        parts = [(low, active)] if low == high else [(int(s), active[spaces == s]) for s in np.unique(spaces)]
        return [self._inside(space, part, size, act) for space, part in parts]

    def _inside(self, space: int, active: Any, size: int, act: tuple[str, str]) -> tuple[Argument, Any]:  # noqa: ANN401
        verb, place = act
        argument = self._arguments.get(space)
        if argument is None:
            raise Defect("out of bounds", place, self.program, "no argument", int(active[0]), f"{verb} a wild address")
        offsets = (active - np.uint64(argument.base)).view(np.int64)
        outside = offsets if offsets.min() < 0 else offsets[offsets > argument.nbytes - size]
        if offsets.min() < 0 or outside.size:
            worst = int(offsets.min() if offsets.min() < 0 else outside[0])
            whole = argument.nbytes // argument.itemsize
            self._fail("out of bounds", place, argument, worst, f"{verb} an argument of {whole} elements")
        return argument, offsets

    def _stamps(self, addresses: Any, mask: Any, argument: Argument, count: int) -> Any:  # noqa: ANN401
        """Period and lane of each entry that the active lanes of one access touch in `argument`.

        A scalar is stored by one thread and loaded by all of them, so its lane is one of its own.
        """
        active = np.flatnonzero(mask.ravel())
        own = active[addresses.ravel()[active] >> np.uint64(_SPACE_BITS) == argument.base >> _SPACE_BITS]
        lanes = own if addresses.size > 1 else own + _SCALAR
        return (np.repeat(lanes, count // max(1, lanes.size)) + 1) | (self._period << _LANE_BITS)

    def _check_lanes(self, argument: Argument, at: Any, offsets: Any, stamps: Any, place: str) -> None:  # noqa: ANN401
        """Raises Defect where lanes load what others of their program stored since the last barrier."""
        there = argument.shadow.lane[at]
        recent = (there >> _LANE_BITS == self._period) & (there != 0)
        others = recent & ((there != stamps) | (there & _SCALAR != 0))
        if others.any():
            i = int(others.argmax())
            more = "no barrier lies between their store and this load; put tl.debug_barrier() there"
            offset = int(offsets[i * offsets.size // at.size])
            self._fail("reads what other lanes stored", place, argument, offset, more)

    def _fail(self, kind: str, place: str, argument: Argument, offset: int, more: str) -> None:
        raise Defect(kind, place, self.program, argument.name, offset // argument.itemsize, more)

    def _real(self, addresses: Any, mask: Any) -> Any:  # noqa: ANN401
        spaces = np.unique((addresses if mask.all() else addresses[mask]) >> np.uint64(_SPACE_BITS))
        if len(spaces) == 1:  # lanes that are masked off go astray, and are not touched
            return addresses + self._shift(int(spaces[0]))
        real = np.zeros_like(addresses)
        for space in spaces:
            here = mask & (addresses >> np.uint64(_SPACE_BITS) == space)
            real[here] = addresses[here] + self._shift(int(space))
        return real

    def _shift(self, space: int) -> np.uint64:
        argument = self._arguments[space]
        return np.uint64((argument.real - argument.base) % 2**64)

    def _number(self) -> int:
        x, y, z = self.program
        return 1 + (x * self.grid[1] + y) * self.grid[2] + z

    def _program(self, number: int) -> tuple[int, int, int]:
        rest, z = divmod(number - 1, self.grid[2])
        return (*divmod(rest, self.grid[1]), z)
