"""A kernel of somebody else as Triton holds it: its function, the author's configs, and how to launch it unsearched."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotune import identity
from autotune.adopt.author import NEUTRAL, OPTIONS, Hook, configs_of, hook_of
from autotune.config import Config, Scalar
from autotune.device import Device
from autotune.errors import UsageError
from autotune.row_check import MOST_THREADS


@dataclass(frozen=True, eq=False)
class ForeignKernel:
    """An autotuned, heuristic or bare Triton function, described; nothing in it was launched or changed."""

    name: str
    """`module:function`, under which Python finds the object."""
    jit: Any
    """The JITFunction below all wrappers; under the interpreter an InterpretedFunction."""
    configs: tuple[Config, ...]
    """The author's configs in their order. A function that is not autotuned has none, or one that stands for them."""
    key: tuple[str, ...]
    """Arguments at whose change the author's Autotuner would search again."""
    heuristics: Mapping[str, Callable[[dict[str, Any]], Any]]
    """Functions that compute constexprs from the other arguments, in the order in which Triton calls them."""
    zeroed: tuple[str, ...]
    """`reset_to_zero`: arguments that every launch finds zeroed, as it adds into them."""
    restored: tuple[str, ...]
    """`restore_value`: arguments that a launch reads and writes."""
    prune: Callable[..., Any] | None
    """The author's `early_config_prune`."""
    pre_hook: Hook | None
    """Called before each launch with all arguments by name."""
    parameters: Mapping[str, inspect.Parameter]
    constexprs: frozenset[str]
    notes: tuple[str, ...] = ()
    """Parts of the Autotuner that have no meaning here, in words."""

    is_autotuned: bool = True
    """True if the configs are the author's own."""

    @property
    def tuned(self) -> tuple[str, ...]:
        """Constexprs that the author's configs set, in the order of the signature."""
        chosen = {name for config in self.configs for name in config}
        return tuple(name for name in self.parameters if name in chosen)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Parameters that a caller gives: neither a config nor a heuristic sets them."""
        return tuple(name for name in self.parameters if name not in self.tuned and name not in self.heuristics)

    def default_on(self, device: Device, /, **named: Any) -> Config:  # noqa: ANN401
        """`default` with no more warps than a block of `device` has: 32 are 1,024 threads, or 2,048 of wavefronts."""
        return _fitted(self.default(**named), device)

    def default(self, **named: Any) -> Config:  # noqa: ANN401
        """The author's first config that `allows` keeps for a call, where any is kept."""
        return next((config for config in self.configs if self.allows(config, **named)), self.configs[0])

    def allows(self, config: Config, **named: Any) -> bool:  # noqa: ANN401
        """True unless the author's `early_config_prune` removes `config` for a call with these arguments."""
        if self.prune is None:
            return True
        import triton

        kept: Sequence[Any] = self.prune([_as_triton(triton.Config, config)], dict(named), **named)
        return len(kept) > 0

    def lists(self, config: Config, device: Device) -> bool:
        """True if `config` is one of the author's, but for options and numbers of warps that `device` lacks."""
        authors = [_fitted(author, device) for author in self.configs]
        return any(all(author.get(name) == value for name, value in config.items()) for author in authors)

    def refuses(self, config: Config, device: Device, **named: Any) -> str | None:  # noqa: ANN401
        """Reason why `config` cannot run a call with these arguments, or None."""
        threads = int(config.get("num_warps", 4)) * device.warp_size
        if threads > MOST_THREADS:
            return f"{threads} threads, a block has {MOST_THREADS} at most"
        return None if self.allows(config, **named) else "the author's early_config_prune removes it"

    def bound(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults of the function filled in; launch options are left out."""
        defaults = {name: part.default for name, part in self.parameters.items() if part.default is not part.empty}
        given = {name: value for name, value in named.items() if name in self.parameters}
        return {**defaults, **dict(zip(self.parameters, args, strict=False)), **given}

    def with_heuristics(self, named: dict[str, Any]) -> dict[str, Any]:
        """Return `named` with the constexprs that the author's heuristics compute from it."""
        named = dict(named)
        for name, compute in self.heuristics.items():
            named[name] = compute(named)
        return named

    def __getitem__(self, grid: Any) -> Callable[..., None]:  # noqa: ANN401
        """`kernel[grid](*args, **config)`: launch with the config that is given, through the author's heuristics."""

        def launch(*args: Any, **named: Any) -> None:  # noqa: ANN401
            positional = dict(zip(self.parameters, args, strict=False))
            given = {name: value for name, value in named.items() if NEUTRAL.get(name, ()) != value}
            every = self.with_heuristics({**positional, **given})
            if self.pre_hook is not None:
                self.pre_hook(every)
            self.jit[grid](*args, **{name: value for name, value in every.items() if name not in positional})

        return launch


def read(
    kernel: Any,  # noqa: ANN401
    *,
    name: str | None = None,
    source: str | None = None,
    config: Config | None = None,
) -> ForeignKernel:
    """Describe a Triton function under any nesting of `@triton.autotune` and `@triton.heuristics`.

    `name`: `module:function` of its import, if not where it was defined. `config` stands for the author's configs where
    there are none. `source`: what `source_of` said of it when it was adopted. Raises UsageError, with the reason, for
    what is no Triton function, for kernels that cannot be launched unsearched, and for code that has changed since.
    """
    wrappers, jit = _unwrapped(kernel)
    name = name or f"{jit.fn.__module__}:{jit.fn.__qualname__}"
    tuners = [wrapper for wrapper in wrappers if hasattr(wrapper, "configs")]
    if len(tuners) > 1:
        raise UsageError(f"{name}: is autotuned twice, one @triton.autotune within another; name the inner one")
    heuristics: dict[str, Any] = {}
    for wrapper in wrappers:
        if not hasattr(wrapper, "configs"):
            heuristics.update(wrapper.values)
    if source is not None and source_of(jit) != source:
        raise UsageError(
            f"{name}: its code is no longer the one that was adopted and proved; run `autotune adopt` again, or write "
            f'source="{source_of(jit)}" and tune again'
        )
    parameters = inspect.signature(jit.fn).parameters
    constexprs = frozenset(part for part, kind in jit.fn.__annotations__.items() if "constexpr" in str(kind))
    tuner = tuners[0] if tuners else None
    hook, notes = hook_of(tuner, name)
    return ForeignKernel(
        name,
        jit,
        configs_of(tuner, parameters, name) if tuner else (config,) if config else (),
        tuple(tuner.keys) if tuner else (),
        heuristics,
        tuple(tuner.reset_to_zero) if tuner else (),
        tuple(tuner.restore_value) if tuner else (),
        tuner.early_config_prune if tuner else None,
        hook,
        parameters,
        constexprs,
        notes,
        tuner is not None,
    )


def _unwrapped(kernel: Any) -> tuple[list[Any], Any]:  # noqa: ANN401
    """Return the wrappers, outermost first, and the Triton function. Raises UsageError."""
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    wrappers = []
    inner = kernel
    while isinstance(inner, Autotuner | Heuristics):
        wrappers.append(inner)
        inner = inner.fn
    if not isinstance(inner, JITFunction | InterpretedFunction):
        raise UsageError(
            f"{getattr(kernel, '__name__', '')}: is a {type(inner).__module__}.{type(inner).__name__}, "
            "no function made by @triton.jit; name the kernel itself, not the function that launches it (vLLM puts "
            "placeholders there where it sees no GPU, unless CUDA_VISIBLE_DEVICES is set and empty)"
        )
    if refusal := _dialect(inner):
        raise UsageError(f"{inner.fn.__module__}:{inner.fn.__name__}: {refusal}")
    return wrappers, inner


def _dialect(jit: Any) -> str | None:  # noqa: ANN401
    """Reason why a function of another language than Triton's own cannot be adopted, or None."""
    if getattr(jit, "is_gluon", bool)():
        return "is a Gluon kernel: it fixes layouts for one arch, and no interpreter can prove it"
    used = (jit.fn.__globals__.get(name) for name in jit.fn.__code__.co_names)
    if any(getattr(module, "__name__", "").endswith(".tlx") for module in used):
        return "is a TLX kernel, of Meta's fork of Triton: no interpreter can prove it"
    return None


def source_of(jit: Any) -> str:  # noqa: ANN401
    """Return 16 hex digits of a Triton function's code and of the Triton functions that it calls, without comments."""
    pending, seen, spelled = [jit], set(), []
    while pending:
        function = pending.pop().fn
        if function in seen:
            continue
        seen.add(function)
        spelled.append(identity.meaning(ast.parse(textwrap.dedent(inspect.getsource(function)))))
        scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
        named = (scope.get(name) for name in sorted(function.__code__.co_names))
        pending += [other for other in named if hasattr(other, "fn") and hasattr(other, "arg_names")]
    return hashlib.sha256("\n".join(sorted(spelled)).encode()).hexdigest()[:16]


def double(value: Any) -> Any:  # noqa: ANN401
    """Return a tensor in float64, None as it is."""
    return None if value is None else value.double()


def _fitted(config: Config, device: Device) -> Config:
    most = MOST_THREADS // device.warp_size
    return Config(config, num_warps=most) if int(config.get("num_warps", 1)) > most else config


def _as_triton(kind: Any, config: Mapping[str, Scalar]) -> Any:  # noqa: ANN401
    """Return `config` as a `triton.Config`, of class `kind`."""
    options = {name: value for name, value in config.items() if name in OPTIONS}
    return kind({name: value for name, value in config.items() if name not in OPTIONS}, **options)
