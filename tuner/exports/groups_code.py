"""Param groups as Python source: what decays, what learns how fast, what is frozen; no optimizer class is written."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable

from tuner.catalog.families import PARTNER
from tuner.catalog.families.optimizer_class import DECOUPLED, FINAL_RATE, SGD_PHASE
from tuner.catalog.training_options import FREEZE, MULTIPLIER, NO_DECAY
from tuner.exports import optimizer_code
from tuner.exports.optimizer_code import Decay
from tuner.exports.writing import Plan, double_quoted, number

_SPARED = {
    "bias+norm": ("(nn.LayerNorm, nn.RMSNorm)", "Biases, norms and whatever has one dimension do not decay"),
    "bias+norm+embedding": (
        "(nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag)",
        "Biases, norms, embeddings and whatever has one dimension do not decay",
    ),
}
_LAYERS = ("layer_scales", "_blocks", "_is_container", "_holds")
_LAYERED = (
    "Layers are the children of the innermost Sequentials and ModuleLists, else those of the model; the top has 1."
)


def is_single(made: Plan) -> bool:
    """Whether one param group holds all parameters, and the optimizer takes ``model.parameters()``."""
    how = optimizer_code.decay(made)
    alike = not how.any or (made.training["no_decay"] == "nothing" and not how.is_added)
    return made.is_plain and alike and PARTNER not in made.row.needs and not _has_sgd_phase(made)


def groups_code(made: Plan) -> str:
    """Return the source of ``param_groups(model)``; empty where none is needed."""
    if is_single(made):
        return ""
    how = optimizer_code.decay(made)
    if made.is_plain and made.training["no_decay"] != "nothing" and PARTNER not in made.row.needs:
        return _simple(made, how)
    parts = [_layers_code()] if made.training["layer_decay"] != 1.0 else []
    return "\n\n".join([*parts, _general(made, how)])


def _simple(made: Plan, how: Decay) -> str:
    kinds, said = _SPARED[str(made.training["no_decay"])]
    return f'''def param_groups(model):
    """{said}."""
{_spared_lines(kinds)}
    decaying, rest = [], []
    for p in model.parameters():
        if p.requires_grad:
            (rest if p.ndim <= 1 or id(p) in spared else decaying).append(p)
    groups = [
        {{"params": decaying, {_keys(how, True)}}},
        {{"params": rest, {_keys(how, False)}}},
    ]
    return [group for group in groups if group["params"]]
'''


def _spared_lines(kinds: str) -> str:
    return (
        f"    modules = [m for m in model.modules() if isinstance(m, {kinds})]\n"
        "    spared = {id(p) for m in modules for p in m.parameters(recurse=False)}"
    )


def _named(how: Decay) -> dict[str, str]:
    """The decays of a group by key, as source."""
    named = {"weight_decay": how.own}
    named |= {"l2": how.l2} if how.l2 else {}
    return {key: number(value) for key, value in (named | ({"decay": how.decoupled} if how.decoupled else {})).items()}


def _keys(how: Decay, decays: bool) -> str:
    return ", ".join(f'"{key}": {value if decays else "0.0"}' for key, value in _named(how).items())


def _general(made: Plan, how: Decay) -> str:
    lines = ["def param_groups(model):", f'    """{_docstring(made, how)}."""']
    if _spares(made, how):
        lines.append(_spared_lines(_SPARED[str(made.training["no_decay"])][0]))
    if made.training["layer_decay"] != 1.0:
        lines.append(f"    scales = layer_scales(model, {number(made.training['layer_decay'])})")
    lines += ["    groups = {}", "    for name, p in model.named_parameters():"]
    lines += [_matching(made.patterns(FREEZE), "p.requires_grad_(False)")] if made.patterns(FREEZE) else []
    lines += ["        if not p.requires_grad:", "            continue", *_rules(made, how)]
    partnered = PARTNER in made.row.needs
    kept = "(name, p)" if partnered else "p"
    lines += [f"        groups.setdefault((scale, decays), []).append({kept})"]
    return "\n".join(lines) + "\n" + (_muon(made, how) if partnered else _listed(made, how))


def _docstring(made: Plan, how: Decay) -> str:
    said = "Group the parameters by learning rate and decay"
    return f"{said}. {_SPARED[str(made.training['no_decay'])][1]}" if _spares(made, how) else said


def _spares(made: Plan, how: Decay) -> bool:
    return (how.any or _has_sgd_phase(made)) and made.training["no_decay"] != "nothing"


def _has_sgd_phase(made: Plan) -> bool:
    """Whether each group switches to SGD by itself, so that it matters which parameters are in it."""
    return made.row.optimizer.adapter == SGD_PHASE


def _rules(made: Plan, how: Decay) -> list[str]:
    """The lines that find a parameter's scale, and whether it decays."""
    layered = made.training["layer_decay"] != 1.0
    lines = [f"        scale = {'scales.get(name, 1.0)' if layered else '1.0'}"]
    lines += [_matching([glob], f"scale *= {number(by)}") for glob, by in made.patterns(MULTIPLIER).items()]
    lines += [f"        decays = {'p.ndim > 1 and id(p) not in spared' if _spares(made, how) else 'True'}"]
    spared = list(made.patterns(NO_DECAY)) if how.any or _has_sgd_phase(made) else []
    return [*lines, _matching(spared, "decays = False")] if spared else lines


def _matching(globs: Iterable[str], then: str) -> str:
    tests = " or ".join(f"fnmatchcase(name, {double_quoted(glob)})" for glob in globs)
    return f"        if {tests}:\n            {then}"


def _decays(made: Plan, how: Decay) -> list[str]:
    """A group's decay, and what else is a rate, as entries of a dictionary."""
    found = [f'"{key}": {value} if decays else 0.0' for key, value in _named(how).items() if value != "0"]
    found = found or (['"weight_decay": 0.0'] if made.row.optimizer.weight_decay == DECOUPLED else [])
    if made.row.optimizer.adapter == FINAL_RATE:
        found.append(f'"final_lr": {number(made.values["final_lr"] * made.factor)} * scale')
    return found


def _listed(made: Plan, how: Decay) -> str:
    entries = ", ".join(['"params": params', f'"lr": {number(made.rate)} * scale', *_decays(made, how)])
    return f"""    return [
        {{{entries}}}
        for (scale, decays), params in groups.items()
    ]
"""


def _muon(made: Plan, how: Decay) -> str:
    v = made.values
    betas = f"({number(v['adamw_beta1'])}, {number(v['adamw_beta2'])})"
    muon = f'"lr": {number(made.rate)} * scale, "use_muon": True, "momentum": {number(v["momentum"])}'
    rate = f"{number(made.rate * v['adamw_ratio'])} * scale"
    return f"""    # Muon takes matrices and kernels inside the model, AdamW embeddings, vectors and the output.
    adamw = {{"use_muon": False, "betas": {betas}, "eps": {number(v["adamw_eps"])}}}
    tables = [m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    embeddings = {{id(p) for m in tables for p in m.parameters(recurse=False)}}
    matrices = {{
        name: key
        for key, named in groups.items()
        for name, p in named
        if id(p) not in embeddings and p.ndim >= 2 and min(p.shape[0], p.numel() // p.shape[0]) > 1
    }}
    heads = [name for name in matrices if name.split(".")[-2:-1] in (["head"], ["lm_head"], ["classifier"])]
    if not heads and matrices:
        heads = [name for name, key in matrices.items() if key == max(matrices.values())][-1:]
    hidden = set(matrices) - set(heads)
    found = []
    for (scale, decays), named in groups.items():
        decay = {{{", ".join(_decays(made, how))}}}
        inner = [p for name, p in named if name in hidden]
        rest = [p for name, p in named if name not in hidden]
        found.append({{"params": inner, {muon}, **decay}})
        found.append({{"params": rest, "lr": {rate}, **adamw, **decay}})
    return [group for group in found if group["params"]]
"""


def _layers_code() -> str:
    """The layers' scales by the study's own functions, without their docstrings and annotations."""
    from tuner.training import param_groups

    norms = "NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)\n"
    return "\n\n".join([norms, *(_bare(getattr(param_groups, name)) for name in _LAYERS)])


def _bare(function: Callable[..., object]) -> str:
    tree = ast.parse(inspect.getsource(function))
    found = tree.body[0]
    assert isinstance(found, ast.FunctionDef)
    found.returns = None
    for argument in found.args.args:
        argument.annotation = None
    if ast.get_docstring(found):
        found.body[0] = ast.Expr(ast.Constant(_LAYERED)) if found.name == _LAYERS[0] else ast.Pass()
    found.body = [_unannotated(statement) for statement in found.body if not isinstance(statement, ast.Pass)]
    return ast.unparse(ast.fix_missing_locations(tree)).replace("'", '"') + "\n"


def _unannotated(statement: ast.stmt) -> ast.stmt:
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return ast.Assign([statement.target], statement.value)
    return statement
