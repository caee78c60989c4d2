"""Param groups: which parameters of a model train, which decay, and the factor of their learning rate.

Rules and patterns of the training options decide it. No optimizer is built here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from tuner.catalog.training_options import FREEZE, MULTIPLIER, NO_DECAY, complete, pattern_of
from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.values import Scalar

NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
"""Modules whose parameters do not decay, whatever their shape (unless the rule is ``nothing``)."""

EMBEDDINGS: tuple[type[nn.Module], ...] = (nn.Embedding, nn.EmbeddingBag)

_SHOWN_CHARACTERS = 600
"""An error message shows this many characters of a model's parameter names."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters with the same learning rate and the same decay.

    Attributes:
        names: the parameters' names in the model.
        params: the parameters, in the order of ``names``.
        scale: factor of their learning rate.
        decays: whether weight decay and L2 act on them.
        embeddings: the names of embedding tables among them, which some optimizers treat differently.
    """

    names: tuple[str, ...]
    params: tuple[nn.Parameter, ...]
    scale: float
    decays: bool
    embeddings: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """The number of their elements."""
        return sum(p.numel() for p in self.params)


def groups(model: nn.Module, training: Mapping[str, Scalar], part: str = "") -> tuple[Group, ...]:
    """Divide a model's trainable parameters by decay and learning rate, in the model's order.

    The rule ``bias+norm`` spares from decay biases, all other parameters with at most one dimension, and all parameters
    of norms (Goyal et al. 2017, arXiv 1706.02677, section 5.3; Jia et al. 2018, arXiv 1807.11205, section 3.1).
    ``bias+norm+embedding`` spares embeddings too; ``no_decay:`` patterns name further parameters. The factors of
    ``multiplier:`` patterns and of layer-wise decay multiply. Parameters that ``freeze:`` patterns name stop training:
    their ``requires_grad`` is set to False. A parameter that several modules share is in one group.

    Args:
        model: the model; its frozen parameters are left out.
        training: the training options.
        part: the model's name among several. Patterns then match ``part.name``, as in ``generator.0.weight``, and
            need not match in each model (see ``check_patterns``).

    Raises:
        WorkloadError: a pattern matches no parameter, or no parameter is left to train.
    """
    values = complete(training)
    named = dict(model.named_parameters())
    if not part:
        check_patterns(list(named), values, type(model).__name__)
    head = f"{part}." if part else ""
    globs = {key: pattern[1] for key in values if (pattern := pattern_of(key))}
    matched = {key: {name for name in named if fnmatchcase(head + name, glob)} for key, glob in globs.items()}
    for key, names in matched.items():
        if key.startswith(FREEZE) and values[key] == "yes":
            for name in names:
                named[name].requires_grad_(False)
    trained = {name: p for name, p in named.items() if p.requires_grad}
    if not trained:
        raise WorkloadError(f"the model {type(model).__name__} has no trainable parameter; expected at least one.")
    spared = _spared(model, trained, str(values["no_decay"]))
    for key, names in matched.items():
        if key.startswith(NO_DECAY) and values[key] == "yes":
            spared |= names
    scales = layer_scales(model, float(values["layer_decay"]))
    tables = _owned(model, trained, EMBEDDINGS)
    members: dict[tuple[float, bool], list[str]] = {}
    for name in trained:
        scale = scales.get(name, 1.0)
        for key, names in matched.items():
            if key.startswith(MULTIPLIER) and name in names:
                scale *= float(values[key])
        members.setdefault((scale, name not in spared), []).append(name)
    return tuple(
        Group(tuple(names), tuple(trained[name] for name in names), scale, decays, frozenset(tables & set(names)))
        for (scale, decays), names in members.items()
    )


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Return each parameter's learning-rate factor under layer-wise decay: 1 in the top layer, ``decay`` in the next.

    Each lower layer has ``decay`` times the factor of the layer above; a decay of 1 returns no factors. A layer is a
    child of a ``Sequential`` or ``ModuleList`` that holds no other such container directly, in the model's order.
    Modules before, between and after these containers are layers too. A norm belongs to the layer before it. In a model
    without containers the direct children are the layers. Sources: Howard & Ruder 2018, arXiv 1801.06146, section 3.2;
    Clark et al. 2020, arXiv 2003.10555.
    """
    if decay == 1.0:
        return {}
    direct = [f"{name}." for name, child in model.named_children() if _holds(child)]
    blocks = list(_blocks(model, "", _is_container(model))) or direct
    norms = {block for block in blocks if isinstance(model.get_submodule(block.rstrip(".")), NORMS)}
    depth: dict[str, int] = {}
    level, last = -1, ""
    for name, _ in model.named_parameters():
        block = next((prefix for prefix in blocks if name.startswith(prefix)), "")
        if level < 0 or (block != last and block not in norms):
            level, last = level + 1, block
        depth[name] = level
    return {name: decay ** (level - at) for name, at in depth.items()}


def _blocks(module: nn.Module, path: str, inside: bool) -> Iterator[str]:
    """Yield the name prefixes of the layers below a module; ``inside``: the module's own children are layers."""
    for name, child in module.named_children():
        if not _holds(child):
            continue
        prefix = f"{path}{name}."
        if _is_container(child):
            yield from _blocks(child, prefix, True)
        elif inside:
            yield prefix
        elif any(_is_container(inner) for inner in child.modules()):
            yield from _blocks(child, prefix, False)


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList) and sum(map(_holds, module)) > 1


def _holds(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def folded(names: Sequence[str]) -> str:
    """Return parameter names as one text, with the indices of repeated layers written as ranges.

    >>> folded(["blocks.0.norm.weight", "blocks.1.norm.weight", "blocks.2.norm.weight", "head.weight"])
    'blocks.[0-2].norm.weight, head.weight'
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for name in names:
        parts = name.split(".")
        shapes.setdefault(".".join("*" if part.isdigit() else part for part in parts), []).append(
            tuple(int(part) for part in parts if part.isdigit())
        )
    return ", ".join(_gathered(shape, indices) for shape, indices in shapes.items())


def _gathered(shape: str, indices: Sequence[tuple[int, ...]]) -> str:
    for position in zip(*indices, strict=True):
        values = sorted(set(position))
        whole = len(values) > 2 and values == list(range(values[0], values[-1] + 1))
        text = f"[{values[0]}-{values[-1]}]" if whole else f"[{','.join(map(str, values))}]"
        shape = shape.replace("*", str(values[0]) if len(values) == 1 else text, 1)
    return shape


def check_patterns(names: Sequence[str], training: Mapping[str, Scalar], model: str) -> None:
    """Refuse training options with a pattern that matches no parameter.

    Args:
        names: the model's parameter names.
        training: the training options.
        model: what the error message calls the model.

    Raises:
        WorkloadError: a pattern matches no parameter.
    """
    for key in training:
        pattern = pattern_of(key)
        if pattern is not None and not any(fnmatchcase(name, pattern[1]) for name in names):
            known = folded(names)
            shown = known if len(known) <= _SHOWN_CHARACTERS else f"{known[:_SHOWN_CHARACTERS]}..."
            expected, todo = f"a glob on its names: {shown}", "Correct the pattern, or leave it out."
            place = Place(f"training {key!r}")
            raise WorkloadError(wrong(place, f"matches no parameter of {model}", expected, todo))


def _spared(model: nn.Module, trained: Mapping[str, nn.Parameter], rule: str) -> set[str]:
    if rule == "nothing":
        return set()
    spared = {name for name, p in trained.items() if p.ndim <= 1} | _owned(model, trained, NORMS)
    return spared | _owned(model, trained, EMBEDDINGS) if rule == "bias+norm+embedding" else spared


def _owned(model: nn.Module, trained: Mapping[str, nn.Parameter], kinds: tuple[type[nn.Module], ...]) -> set[str]:
    held = {id(p) for module in model.modules() if isinstance(module, kinds) for p in module.parameters(recurse=False)}
    return {name for name, p in trained.items() if id(p) in held}
