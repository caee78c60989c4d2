"""Inspect a workload's model on the CPU before anything is trained: its layers, its size, its kind and its task.

Which recipes fit such a model is decided in :mod:`tuner.recipes.suggestion`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tuner.catalog.training_options import OWN_OPTIONS, complete
from tuner.core.records import Horizon
from tuner.recipes.suggestion import Features
from tuner.training.environment import seed_everything
from tuner.training.workloads.base import Batch, Workload

EXAMPLES = 2
"""Number of examples that go through the model, to see which functions it calls beside its modules."""

_NORMS = ("batchnorm", "layernorm", "groupnorm", "instancenorm", "rmsnorm")
_ATTENTION = "attention"
_SUMS = ("add", "add_", "__add__", "__iadd__", "__radd__")
_MASKS = ("masked_fill", "masked_fill_", "tril", "triu", "where")
_UPSAMPLING = ("interpolate", "upsample")
_FEW_CONVOLUTIONS = 4
"""A Transformer may have this many more convolutions than attentions: they make its patches."""


class _Calls(TorchFunctionMode):
    """Counts the calls in a forward pass that tell model kinds apart, such as attention, masks and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            self.counts[_ATTENTION] += 1
            self.counts["mask"] += bool(kwargs.get("is_causal", args[5] if len(args) > 5 else False))
        elif name == "softmax" and isinstance(args[0], Tensor) and args[0].ndim >= 3:
            self.counts[_ATTENTION] += 1
        elif name in _MASKS:
            self.counts["mask"] += 1
        elif name in _UPSAMPLING:
            self.counts["upsampling"] += 1
        elif name in _SUMS and _same_shape(*args[:2]):
            self.counts["sum"] += 1
        elif name.startswith("conv") or name == "embedding":
            self.counts[name] += 1
        return func(*args, **kwargs)


def _same_shape(*given: Any) -> bool:
    tensors = [x for x in given if isinstance(x, Tensor) and x.ndim >= 3]
    return len(tensors) == 2 and tensors[0].shape == tensors[1].shape


def look(workload: Workload) -> Features:
    """Return the features of a workload's model, after a forward pass of two examples. Nothing is trained.

    Raises:
        WorkloadError: the workload does not take the training options that its class states.
        Exception: whatever the workload's ``setup``, ``model`` or ``train_batches`` raises.
    """
    workload.place(torch.device("cpu"), complete(workload.granted))
    seed_everything(0)
    model = workload.model(0)
    batch = next(iter(workload.train_batches(0, 0)), None)
    calls, remarks = _calls(workload, model, batch)
    counts = _counts(model, calls)
    kind = _kind(model, counts)
    tensors = list(_tensors(batch))
    traits = _traits(model, counts, kind)
    unit, amount = next(iter((workload.horizon or {}).items()), ("", 0.0))
    return Features(
        kind=kind,
        traits=frozenset({kind, *traits}),
        tasks=_tasks(kind, traits, tensors),
        layers=dict(Counter(type(m).__name__ for m in model.modules() if not list(m.children()))),
        parameters=sum(p.numel() for p in model.parameters()),
        batch=workload.own[0] or (len(tensors[0]) if tensors and tensors[0].ndim else None),
        horizon=Horizon(float(amount), unit) if unit else None,
        metric=workload.metric,
        direction=workload.direction,
        takes=frozenset(name for name, own in zip(OWN_OPTIONS, workload.own, strict=True) if own is not None),
        remarks=remarks,
    )


def _calls(workload: Workload, model: nn.Module, batch: Batch) -> tuple[Counter[str], tuple[str, ...]]:
    """Return how often the loss of two examples calls what, and a remark if the loss cannot be computed."""
    if type(workload).loss is Workload.loss:
        return Counter(), ("The workload overrides train_step and has no loss: only its modules were inspected.",)
    calls = _Calls()
    try:
        with workload.autocast(), calls:
            workload.loss(model, _few(batch, _leading(batch)))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        missing = "functions that it calls beside its modules may be missing"
        return calls.counts, (f"Its loss could not be computed on {EXAMPLES} examples ({reason}): {missing}.",)
    return calls.counts, ()


def _leading(batch: Batch) -> int:
    """Return the number of examples: the length of the first tensor that has one."""
    return next((len(t) for t in _tensors(batch) if t.ndim), 0)


def _few(batch: Batch, size: int) -> Batch:
    """Return the first examples of a batch; tensors without one entry for each example stay whole."""
    if isinstance(batch, Tensor):
        return batch[:EXAMPLES] if batch.ndim and len(batch) == size else batch
    if isinstance(batch, Mapping):
        return {key: _few(value, size) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_few(item, size) for item in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_few(item, size) for item in batch)
    return batch


def _tensors(batch: Batch) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from _tensors(value)


def _counts(model: nn.Module, calls: Counter[str]) -> Counter[str]:
    """Count what recipes depend on, as modules, or as calls where there are more calls."""
    counts: Counter[str] = Counter()
    for module in model.modules():
        names = [cls.__name__.lower() for cls in type(module).__mro__]
        counts[_ATTENTION] += isinstance(module, nn.MultiheadAttention) or "selfattention" in names[0]
        counts["recurrent"] += isinstance(module, nn.RNNBase | nn.RNNCellBase)
        counts["embedding"] += isinstance(module, nn.Embedding | nn.EmbeddingBag)
        counts["graph"] += type(module).__module__.startswith(("torch_geometric", "dgl"))
        counts["upsampling"] += names[0].startswith(("convtranspose", "upsample"))
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            counts["conv"] += 1
            counts["depthwise"] += 1 < module.in_channels == module.groups
            counts["patches"] += module.stride == module.kernel_size and max(module.stride) > 1
        for norm in _NORMS:
            counts[norm] += norm in names[0] or (norm == "batchnorm" and "_batchnorm" in names)
    functional = sum(n for name, n in calls.items() if name.startswith("conv") and "transpose" not in name)
    counts["conv"] = max(counts["conv"], functional)
    for name in (_ATTENTION, "embedding", "upsampling", "mask", "sum"):
        counts[name] = max(counts[name], calls[name])
    return counts


def _kind(model: nn.Module, counts: Counter[str]) -> str:
    """Return the recipe book's word for the kind of model."""
    names = " ".join([type(model).__name__, *(name for name, _ in model.named_children())]).lower()
    if "discriminator" in names or "critic" in names or "gan" in names.split():
        return "gan"
    if counts["graph"]:
        return "gnn"
    if counts["recurrent"]:
        return "rnn"
    if counts[_ATTENTION] and counts["conv"] <= counts[_ATTENTION] + _FEW_CONVOLUTIONS:
        return "transformer"
    if counts["conv"]:
        return "unet" if counts["upsampling"] else "convnet"
    return "mlp"


def _traits(model: nn.Module, counts: Counter[str], kind: str) -> frozenset[str]:
    """Return the recipe book's words for what a model has besides its kind."""
    traits = {norm.removesuffix("norm") + "-norm" for norm in _NORMS if counts[norm]}
    traits |= {word for word in ("embedding", "depthwise") if counts[word]}
    traits |= {"convnet"} if counts["conv"] and kind in ("gan", "unet") else set()
    traits |= {"mlp"} if kind == "gan" and not counts["conv"] else set()
    traits |= {_ATTENTION} if counts[_ATTENTION] and kind != "transformer" else set()
    traits |= {"patches"} if counts["patches"] and kind == "transformer" else set()
    traits |= {"causal"} if counts["mask"] and counts[_ATTENTION] and counts["embedding"] else set()
    traits |= {"residual"} if counts["sum"] > 1 and kind != "transformer" else set()
    names = [name for name, _ in model.named_modules()]
    both = any("encoder" in name for name in names) and any("decoder" in name for name in names)
    return frozenset(traits | ({"encoder-decoder"} if both and kind == "transformer" else set()))


def _tasks(kind: str, traits: frozenset[str], tensors: list[Tensor]) -> frozenset[str]:
    """Guess from the kind of model and from a batch what the model is trained for."""
    integers = [t for t in tensors if not t.is_floating_point()]
    is_label = any(t.ndim == 1 for t in integers)
    if kind == "gan":
        return frozenset({"image-generation"})
    if kind == "unet":
        per_pixel = any(t.ndim >= 3 for t in integers)
        return frozenset({"segmentation"} if per_pixel else {"image-to-image", "image-generation"})
    if kind == "gnn":
        return frozenset({"node-classification"})
    if "embedding" in traits and any(t.ndim == 2 for t in integers):
        if is_label:
            return frozenset({"text-classification"})
        if kind == "transformer" and "causal" not in traits:
            return frozenset({"masked-language-model", "translation", "text-to-text"})
        return frozenset({"language-model"})
    if kind == "mlp":
        return frozenset({"tabular"})
    return frozenset({"image-classification"} if is_label else {"self-supervised", "speech"})
