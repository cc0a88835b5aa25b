"""`@tunable`: one object for production and for tuning."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor

from autotune import device as devices
from autotune import identity, launcher_signature, runtime, torch_ops
from autotune.arch import Accumulation
from autotune.choices import Choices, first_allowed, within_limits
from autotune.config import Config, P, Scalar
from autotune.declared_problem import DeclaredProblem, on_tensors
from autotune.device import Device
from autotune.errors import DeviceError, UsageError
from autotune.identity import Identity
from autotune.launcher_signature import Signature
from autotune.origin import Origin
from autotune.runtime import Served

Arguments = Any
"""The arguments of one call as a named tuple, whose fields are the parameters of the launcher."""


@dataclass(frozen=True)
class Expected:
    """Expected value of one output in float64, and how far each element may lie from it.

    An element that is expected to be NaN or an infinity must be just that, whatever its bound, unless that is infinite:
    then it may be anything, but for a finite number where an infinity is expected.
    """

    name: str
    value: Tensor
    bound: Tensor
    truncation: Callable[[Accumulation, bool], Tensor] | None = None
    """Growth of the bound where matrix units truncate FP8 products; the second argument says whether the rounding
    errors of products are independent of one another, as those of random inputs are."""

    def on(self, device: Device, *, independent: bool) -> Expected:
        """The same on the matrix units of `device`."""
        sums = device.architecture.fp8_sums
        if sums is None or self.truncation is None:
            return self
        return replace(self, bound=self.bound + self.truncation(sums, independent), truncation=None)


@dataclass(frozen=True)
class Work:
    """Work of one call, for the cost model: a formula per kernel, checked against counts of the interpreter."""

    programs: int
    flops_per_program: float
    """Flops issued by one program, padding included."""
    bytes_per_program: float
    """Read and written through L2 by one program."""
    unique_bytes: float
    """Crossing DRAM once when the caches are ideal."""
    iterations: int = 1
    dtype: str = "fp32"
    """Matrix operand type: fp4, fp8 (both scaled by block), fp8_tensor (scaled after the sum), bf16; fp32 outside the
    matrix units."""
    launches: int = 1
    reduction_bytes: float = 0.0
    lane_operations_per_program: float = 0.0
    """Conversions and exponentials of one program, outside the matrix units."""
    widened_to: str | None = None
    """Operand type of the instruction that the compiler falls back to, where it has none for `dtype` with this tile."""
    loaded_bytes: tuple[float, float] | None = None
    """Bytes of an element of A and of B as they are loaded, where the kernel widens one; None: both as `dtype` says."""


@dataclass(frozen=True)
class Library:
    """The function of torch that does a kernel's job: timed beside tuned configs, never served."""

    name: str
    """Name in reports, such as `torch.mm`."""
    prepare: Callable[..., Callable[[], Any] | None]
    """(problem, arguments) -> a call whose outputs `decode` reads as it reads the launcher's, or None where the library
    cannot do this problem. Layouts that only the library wants are made here, ahead of what is timed."""


@dataclass(frozen=True, eq=False)
class Kernel(Generic[P]):
    """A kernel file's public name: call it, or hand it to the tuner."""

    name: str
    problem: type[P]
    jit: Any
    """The JITFunction whose signature is the only authority on parameter names."""
    launch: Callable[..., Any]
    reference: Callable[..., tuple[Expected, ...]]
    """(problem, *inputs) -> what each output must be; float64, written from the maths."""
    decode: Callable[..., tuple[Tensor, ...]]
    """(problem, outputs of the launcher) -> float64 tensors to hold against `reference`."""
    default: Callable[[P, Device], Config]
    reject: Callable[[P, Config, Device], str | None]
    """Why a config cannot run, or None. What passes is correct on that problem, perhaps slow."""
    formula: Callable[[P, Config, Device], Work] | None
    """The work of one call; where a kernel gives none, the tuner counts it in the interpreter."""
    origin: Origin
    signature: Signature
    library: Library | None = None
    any_order: bool = False
    """True where atomics add floats in no order: bits may differ between runs, values stay within their bounds."""
    proved_against_itself: bool = False
    """True where the reference is the kernel at another config: a proof shows that configs agree, and rows say so."""
    choices: Choices | None = None
    """Values to search, where the kernel lists them itself; None: its search space's file does."""

    def __call__(
        self,
        *args: Any,  # noqa: ANN401
        config: Config | None = None,
        device: Device | None = None,
        **named: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Launch with `config`, or with the tuned table's choice for this call's shapes and dtypes.

        Arguments are those of the launcher, by position or by name. Raises UsageError for others.
        """
        if named:
            args = self.signature.complete(args, named, self.name)
        if torch.compiler.is_compiling():
            return torch_ops.call(self, args, device)
        if config is not None:
            return self.launch(*args, config=config, device=device or self.home(args))
        served = self.serve(args, device)
        served.calls += 1
        return self.launch(*args, config=served.config, device=served.device)

    def serve(self, args: tuple[Any, ...], device: Device | None = None) -> Served:
        """Return the choice for a call. A repeated call costs a dictionary hit and touches no data: safe in a capture.

        Raises UsageError for a missing argument, DeviceError where no GPU is known.
        """
        if device is None:
            try:
                return self._served[self._key(args)]
            except LookupError:  # a call that is new, or that leaves out defaults
                pass
        args = self.signature.complete(args, {}, self.name)
        call = (device, self._key(args)) if device else self._key(args)
        served = self._served.get(call)
        if served is None:
            device = device or self.home(args)
            served = Served(runtime.choose(self, self.problem_of(args, device), device), device)
            if len(self._served) >= runtime.MOST:
                self._served.clear()
            self._served[call] = served
        return served

    def arguments(self, *args: Any) -> Arguments:  # noqa: ANN401
        """Return the arguments of a call as a named tuple, defaults filled in. Raises UsageError."""
        return self.signature.arguments._make(self.signature.complete(args, {}, self.name))

    def problem_of(self, args: tuple[Any, ...], device: Device) -> P:
        """Return the problem of a call; an FP8 format that tensors do not show (bytes of a cache) is the device's.

        Raises UsageError for sizes that no problem may have.
        """
        arguments = self.arguments(*args)
        try:
            problem: P = self.problem.of(arguments)  # type: ignore[attr-defined]
        except ValueError as error:
            raise UsageError(f"{self.name}: {error}") from error
        if "dtype" in getattr(problem, "DRAWN", ()):
            return replace(problem, dtype=device.fp8)
        return problem

    def home(self, args: tuple[Any, ...]) -> Device:
        """The GPU on which the tensors of a call lie. Raises DeviceError, also where it is not the current one.

        Triton launches on the current GPU, where another one's memory may not be reached.
        """
        place = next(arg.device for arg in args if isinstance(arg, torch.Tensor))
        if place.type != "cuda" or place.index is None:
            return devices.current()
        if place.index != (current := torch.cuda.current_device()):
            raise DeviceError(
                f"{self.name}: its tensors lie on cuda:{place.index}, the current GPU is cuda:{current}; "
                f"call it inside `with torch.cuda.device({place.index})`"
            )
        return devices.at(place.index)

    def forbids(self, problem: P, config: Config, device: Device) -> str | None:
        """Why a config cannot run on `problem`, or would compute something wrong; None also where it is only slow.

        `reject` refuses threads without work too, a rule of speed. A refusal that fewer warps lift is of that kind:
        every other rule holds for any number of warps, or for more of them.
        """
        reason = self.reject(problem, config, device)
        warps = int(config.get("num_warps", 1))
        while warps > 1 and reason is not None:
            warps //= 2
            if self.reject(problem, Config(config, num_warps=warps), device) is None:
                return None
        return reason

    def work(self, problem: P, config: Config, device: Device) -> Work:
        """Return the work of one call by the kernel's formula. Raises UsageError where it has none."""
        if self.formula is None:
            raise UsageError(f"{self.name}: has no formula of its work; autotune.tuning.counted_work counts it")
        return self.formula(problem, config, device)

    @cached_property
    def constexprs(self) -> frozenset[str]:
        """Names of the compile-time parameters."""
        # Under the interpreter the jit object has no params; the annotations are the same ones.
        annotations = getattr(self.jit, "fn", self.jit).__annotations__
        return frozenset(name for name, kind in annotations.items() if "constexpr" in str(kind))

    @cached_property
    def op(self) -> Callable[..., Any]:
        """This kernel as an op of torch: `torch.ops.autotune.<family>_<kernel>`."""
        return torch_ops.define(self)

    @cached_property
    def _key(self) -> Callable[[tuple[Any, ...]], Any]:
        return self.signature.reader

    @cached_property
    def _served(self) -> dict[Any, Served]:
        return runtime.served(self.name)

    @property
    def family(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def path(self) -> Path:
        """The Python file, links resolved."""
        return self.origin.path

    @cached_property
    def identity(self) -> Identity:
        """Hashes of this kernel's code, by what depends on them."""
        return identity.read(self.path, self.origin.function)

    def source_hash(self) -> str:
        """Return the hash of what the compiler and the launcher see, which tables keep as `source`."""
        return self.identity.kernel


def tunable(  # noqa: PLR0913 - the parts of a kernel, by name
    problem: type[Any],  # a Problem, whose flops and bytes may be absent
    *,
    jit: Any,  # noqa: ANN401
    reference: Callable[..., Any],
    tolerance: float | None = None,
    decode: Callable[..., tuple[Tensor, ...]] | None = None,
    choices: Mapping[str, Sequence[Scalar]] | None = None,
    default: Callable[..., Config] | None = None,
    reject: Callable[..., str | None] | None = None,
    work: Callable[..., Work] | None = None,
    library: Library | None = None,
    any_order: bool = False,
    proved_against_itself: bool = False,
) -> Callable[[Callable[..., Any]], Kernel[Any]]:
    """Turn a launcher into a Kernel.

    The parameters of the launcher are the only list of arguments: `Problem.of(arguments)`, `reference(problem,
    arguments)` and a library's `prepare` read them by name, and `Problem.inputs` returns them in this order. A launcher
    that returns nothing writes its arguments called `out` or `out_...`, which a call of the kernel then returns.

    The reference returns `Expected` for each output, or plain tensors of any precision: then an output may differ from
    its reference r by `tolerance` (1 + |r|), as in torch.testing.assert_close with rtol = atol = `tolerance`. For a
    problem that `autotune.problem` declares, the reference is a function of the launcher's arguments, whose floating
    tensors come in float64, and every call's tensors are checked against the declaration.

    `choices` lists the values to search by parameter and launch option, in place of `params` in the search space's
    file. Then the default is the first config that `reject` allows, and `reject` says only what the kernel itself
    forbids, such as a block shorter than a row; without `choices` both must be given. Without
    `decode` the outputs themselves are held against it. Without `work` the tuner counts bytes and flops in the
    interpreter. `any_order` declares that atomics add floats in no order, which a proof refuses otherwise.
    `proved_against_itself` declares that the reference launches the kernel at another config.
    Raises UsageError for what cannot be a kernel.
    """

    is_declared = issubclass(problem, DeclaredProblem)
    listed = None if choices is None else {name: tuple(values) for name, values in choices.items()}

    def wrap(launch: Callable[..., Any]) -> Kernel[Any]:
        jit_function = _unwrapped(jit, launch.__name__)
        origin = Origin(Path(inspect.getfile(launch)).resolve(), launch.__name__)
        if is_declared:
            _check_declared(problem, launch)
        signature = launcher_signature.read(launch, problem.of, problem.READS if is_declared else None)
        launched = launch if launcher_signature.returns(launch) else _returning_outputs(launch, signature)
        if is_declared:
            launched = _checking(launched, problem, signature)
        rules = _rules(default, reject, listed, launch.__name__)

        def by_name(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda problem, *args: function(problem, kernel.arguments(*args))

        kernel = Kernel(
            origin.name,
            problem,
            jit_function,
            launched,
            by_name(_expecting(on_tensors(reference) if is_declared else reference, tolerance)),
            decode or as_float64,
            *rules,
            work,
            origin,
            signature,
            library and Library(library.name, by_name(library.prepare)),
            any_order,
            proved_against_itself,
            listed,
        )
        _ = kernel.op  # `torch.ops` must know the name before the first call
        return kernel

    return wrap


def _unwrapped(jit: Any, launcher: str) -> Any:  # noqa: ANN401
    """The function under `@triton.jit` in `jit`. Raises UsageError where it is none, or searches by itself."""
    while type(jit).__name__ == "Heuristics":  # the launcher calls it, and it fills in its parameters
        jit = jit.fn
    if type(jit).__name__ == "Autotuner":
        raise UsageError(
            f"{launcher}: jit= is under @triton.autotune, which would search by itself; remove that decorator here and "
            "list its configs in the search space, or let `autotune adopt` do so"
        )
    if not hasattr(jit, "run"):
        raise UsageError(f"{launcher}: jit= must be a function under @triton.jit, got {type(jit).__name__}")
    return jit


def _rules(
    default: Callable[..., Config] | None,
    reject: Callable[..., str | None] | None,
    choices: Choices | None,
    launcher: str,
) -> tuple[Callable[..., Config], Callable[..., str | None]]:
    """The default and the rules of a kernel, made from its choices where it leaves them out. Raises UsageError."""
    if choices is None:
        if default is None or reject is None:
            raise UsageError(
                f'{launcher}: list what may be tuned, @tunable(choices={{"BLOCK": [128, 256]}}), or give default= and '
                "reject= and a search space's file"
            )
        return default, reject
    if not choices or not all(choices.values()):
        raise UsageError(f"{launcher}: choices must list one value or more of each parameter, got {dict(choices)}")
    rules = within_limits(reject)
    return default or first_allowed(choices, rules, launcher), rules


def _check_declared(problem: type[DeclaredProblem], launch: Callable[..., Any]) -> None:
    """Raise UsageError unless the problem declares the launcher's arguments in order, but for those with defaults."""
    parameters = [p for p in inspect.signature(launch).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    names = tuple(parameter.name for parameter in parameters)
    needed = {parameter.name for parameter in parameters if parameter.default is parameter.empty}
    declared = problem.ARGUMENTS
    if names[: len(declared)] != declared or not needed <= set(declared):
        raise UsageError(
            f"{launch.__name__}: problem(...) must declare its arguments in their order, {', '.join(names)}; got "
            f"{', '.join(declared)}"
        )


def _checking(launch: Callable[..., Any], problem: type[DeclaredProblem], signature: Signature) -> Callable[..., Any]:
    """`launch`, which refuses arguments of another form than the problem declares, by name."""

    @wraps(launch)
    def launched(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            problem.of(signature.arguments._make(signature.complete(args, {}, launch.__name__)))
        except ValueError as error:
            raise UsageError(f"{launch.__name__}: {error}") from error
        return launch(*args, **options)

    return launched


def _returning_outputs(launch: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    """`launch`, which returns nothing, as a launcher that returns the arguments that it writes."""

    @wraps(launch)
    def launched(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        args = signature.complete(args, {}, launch.__name__)
        launch(*args, **options)
        outputs = tuple(args[at] for at in signature.written if args[at] is not None)
        return outputs[0] if len(outputs) == 1 else outputs

    return launched


def _expecting(reference: Callable[..., Any], tolerance: float | None) -> Callable[..., tuple[Expected, ...]]:
    """`reference`, whose plain tensors of any precision become what is expected, within `tolerance`."""

    def expected(problem: object, arguments: Arguments) -> tuple[Expected, ...]:
        values = reference(problem, arguments)
        values = (values,) if isinstance(values, Tensor | Expected) else tuple(values)
        return tuple(_expected(f"output {at}", value) for at, value in enumerate(values))

    def _expected(name: str, value: Tensor | Expected) -> Expected:
        if isinstance(value, Expected):
            return value
        if tolerance is None:
            raise UsageError(
                "the reference returns a plain tensor: say how near an output must be, @tunable(tolerance=1e-2), or "
                "return Expected with a bound of each element"
            )
        wide = value.double()
        finite = torch.where(wide.isfinite(), wide.abs(), 0.0)
        return Expected(name, wide, tolerance * (1 + finite))

    return expected


def as_float64(problem: object, outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a launcher's outputs as they are, in float64: the `decode` of most kernels."""
    return tuple(output.double() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs))
