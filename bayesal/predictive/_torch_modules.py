"""Modules of torch: passes with dropout masks that all rows share, or an ensemble; numbers cross by
DLPack.
"""

import contextlib
import copy as copying
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bayesal import _checks, errors
from bayesal._warnings import warn
from bayesal.predictive import _reading
from bayesal.predictive._bound import Predictive
from bayesal.predictive._samples import from_samples

ALPHA = -1.7580993408473766  # what SELU tends to for low inputs: minus its scale times its alpha


def from_torch(
    logits: Any = None,
    *,
    probs: Any = None,
    log_probs: Any = None,
    num_draws: int | None = None,
    seed: int = 0,
    embed: str | None = None,
    copy: bool = True,
) -> Predictive:
    """A torch module with dropout, or a list of modules, as a predictive.

    Of a module with dropout, K passes: a draw's masks are made from the seed, the draw and the
    dropout's place in the pass, one for all rows, so a draw is one function of x. All else is in
    eval mode (BatchNorm uses its running statistics). Of a list, one draw per module, in eval mode.
    No gradient is kept, and random states and training flags of torch stay as they are.

    Args:
      logits, probs, log_probs: exactly one, a module `x [n, ...] -> [n, C]` that gives these, or a
        list of such modules.
      num_draws: K, for a module with dropout.
      seed: fixes all masks.
      embed: the dotted name of the last layer, such as "fc": what goes into it, without dropout,
        are the features (of the first module of a list).
      copy: whether the modules are copied now, so that training on does not change these draws.
        False: they are used as they are at each call, and set to eval mode for as long as it takes.
          Inputs are copied in any case, for layers that write in place.
    Raises:
      ConstantScores: a single module without `torch.nn` dropout of a rate above 0. WrongShape:
        dropout that does not see the rows along its first axis.
    Warns:
      about dropout that cannot be reached and stays off: inside `nn.LSTM` or attention, or
      `F.dropout` in a `forward`.

    >>> import torch  # doctest: +SKIP
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(32, 3)
    ... )  # doctest: +SKIP
    >>> from_torch(net, num_draws=50)(np.zeros((7, 4), np.float32)).shape  # doctest: +SKIP
    (50, 7, 3)
    """
    kind, given = _reading.the_one({"logits": logits, "probs": probs, "log_probs": log_probs})
    modules = _modules(given, kind, copy)
    passes: list[tuple[Any, Masks | None]]
    if _is_list(given):
        if num_draws not in (None, len(modules)):
            raise errors.WrongSize(
                "num_draws",
                f"`num_draws` = {num_draws}, but this ensemble has exactly {len(modules)} modules: "
                "leave it out.",
            )
        passes = [(module, None) for module in modules]
    else:
        _can_drop(modules[0], kind)
        passes = [
            (modules[0], Masks(kind, seed, k))
            for k in range(_checks.at_least(1, num_draws, "num_draws"))
        ]
    features = (
        None
        if embed is None
        else functools.partial(_features, modules[0], _layer(modules[0], embed))
    )
    return from_samples(
        num_draws=len(passes),
        host=True,
        embed=features,
        **{kind: functools.partial(_predictions, passes, kind)},  # type: ignore[arg-type]
    )


def _is_list(given: Any) -> bool:
    import torch

    return isinstance(given, list | tuple | torch.nn.ModuleList)


def _modules(given: Any, kind: str, copy: bool) -> list[Any]:
    with _checks.installed("torch", "torch"):
        import torch

    modules = list(given) if _is_list(given) else [given]
    for module in modules:
        if not isinstance(module, torch.nn.Module):
            raise errors.WrongType(
                kind,
                f"`{kind}` must be a torch.nn.Module or a list of them, got "
                f"{type(module).__name__}. Of any function of x: from_samples.",
            )
    if _is_list(given) and len(modules) < 2:
        raise errors.WrongSize(
            kind,
            f"`{kind}` lists {len(modules)} modules; an ensemble needs at least two. Of one "
            "module with dropout pass it alone.",
        )
    return [copying.deepcopy(module) for module in modules] if copy else modules


def _dropouts(module: Any) -> list[Any]:
    import torch.nn as nn

    kinds = (
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Dropout3d,
        nn.AlphaDropout,
        nn.FeatureAlphaDropout,
    )
    return [part for part in module.modules() if isinstance(part, kinds)]


def _can_drop(module: Any, kind: str) -> None:
    layers = _dropouts(module)
    if not any(layer.p > 0 for layer in layers):
        raise errors.ConstantScores(
            kind,
            "this module has no dropout layer of torch.nn with a rate above 0, so all draws "
            "would agree and every score would be constant. `F.dropout` inside a "
            "`forward` cannot be reached: make it an nn.Dropout; or pass a list of modules, "
            "an ensemble.",
        )
    others = [
        name for name, part in module.named_modules() if part not in layers and _own_rate(part)
    ]
    if others:
        warn(
            f"dropout inside {', '.join(others[:5]) or 'the module'} cannot be reached and "
            "stays off: only layers such as torch.nn.Dropout are drawn.",
        )


def _own_rate(part: Any) -> bool:
    """Whether a module drops out by itself, as attention, recurrent layers and DropPath do."""
    names = (
        "dropout",
        "dropout_p",
        "drop_prob",
        "drop_rate",
        *(["p"] if "drop" in type(part).__name__.lower() else []),
    )
    return any(
        isinstance(rate, int | float) and rate > 0
        for rate in (getattr(part, name, None) for name in names)
    )


def _layer(module: Any, name: str) -> Any:
    known = dict(module.named_modules())
    if name not in known:
        raise errors.UnknownName(
            "embed",
            f"`embed` = {name!r} is no layer of this module; its layers are "
            f"{', '.join(n for n in known if n)}.",
        )
    return known[name]


class Masks:
    """The masks of one draw: each made afresh from the seed, the draw and its place in the pass,
    the same in every pass.
    """

    def __init__(self, kind: str, seed: int, draw: int):
        self.kind, self.seed, self.draw, self.place, self.rows = kind, seed, draw, 0, 0

    def begin(self, rows: int) -> None:
        """A pass over so many rows."""
        self.place, self.rows = 0, rows

    def __call__(self, layer: Any, given: tuple[Any, ...], output: Any) -> Any:
        """What a dropout layer gives in place of its output: a hook."""
        import torch

        del output
        x = given[0]
        if x.ndim < 2 or x.shape[0] != self.rows:
            raise errors.WrongShape(
                self.kind,
                f"a dropout layer saw shape {tuple(x.shape)} while {self.rows} rows were "
                "predicted: its first axis must be the rows, or one mask cannot serve "
                "all of them. For attention and recurrent layers: batch_first=True.",
            )
        whole = isinstance(layer, torch.nn.Dropout | torch.nn.AlphaDropout)
        shape = (1, *x.shape[1:]) if whole else (1, x.shape[1], *[1] * (x.ndim - 2))
        words = np.random.SeedSequence([self.seed, self.draw, self.place]).generate_state(2)
        self.place += 1
        generator = torch.Generator().manual_seed((int(words[0]) << 31) ^ int(words[1]))
        keep = (torch.rand(shape, generator=generator) >= layer.p).to(x.device)
        if not isinstance(layer, torch.nn.AlphaDropout | torch.nn.FeatureAlphaDropout):
            return x * (keep / max(1 - layer.p, 1e-30)).to(x.dtype)
        scale = 1 / math.sqrt(max((1 - layer.p) * (1 + layer.p * ALPHA**2), 1e-30))
        return torch.where(keep, x, ALPHA) * scale - scale * layer.p * ALPHA


@contextlib.contextmanager
def _quiet(
    module: Any,
    layers: Sequence[Any] = (),
    hook: Callable[..., Any] | None = None,
    before: bool = False,
) -> Iterator[None]:
    """The module in eval mode, without gradients and torch's fused encoder (which skips dropout
    layers), with a hook on some layers; all of it taken back.
    """
    import torch

    training = {part: part.training for part in module.modules()}
    hooks = [
        layer.register_forward_pre_hook(hook) if before else layer.register_forward_hook(hook)
        for layer in layers
    ]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        module.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for part, flag in training.items():
            part.training = flag
        for handle in hooks:
            handle.remove()


def _tensor(module: Any, x: np.ndarray) -> Any:
    """A copy of x where the module is, in its floating-point type; whole numbers stay whole."""
    import torch

    tensor = torch.from_numpy(np.array(x))
    first = next((p for p in module.parameters() if p.is_floating_point()), tensor)
    return tensor.to(
        device=first.device, dtype=first.dtype if tensor.is_floating_point() else tensor.dtype
    )


def _numbers(output: Any, rows: int, name: str) -> np.ndarray:
    import torch

    if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[0] != rows:
        got = (
            f"shape {tuple(output.shape)}"
            if isinstance(output, torch.Tensor)
            else type(output).__name__
        )
        raise errors.WrongShape(
            name,
            f"`{name}` must be a module that gives one tensor [n rows, C] for {rows} rows; "
            f"it gave {got}. Wrap it in one that does.",
        )
    return np.asarray(_reading.read(output.float().cpu(), name))


def _predictions(passes: list[tuple[Any, Masks | None]], kind: str, x: np.ndarray) -> np.ndarray:
    """One pass after the other, `[K, n, C]`."""
    out = []
    for module, masks in passes:
        tensor = _tensor(module, x)
        if masks is not None:
            masks.begin(len(x))
        with _quiet(module, _dropouts(module) if masks else (), masks):
            out.append(_numbers(module(tensor), len(x), kind))
        if masks is not None and masks.place == 0:
            raise errors.ConstantScores(
                kind, "the module's dropout layers were not called, so all draws would agree."
            )
    return np.stack(out)


def _features(module: Any, layer: Any, x: np.ndarray) -> np.ndarray:
    seen = []
    with _quiet(
        module, [layer], lambda part, given: seen.append(given[0].detach().clone()), before=True
    ):
        module(_tensor(module, x))
    if not seen:
        raise errors.WrongShape(
            "embed",
            "the layer named by `embed` was not called, so it has no input to take as features.",
        )
    return _numbers(seen[-1].reshape(len(x), -1), len(x), "embed")
