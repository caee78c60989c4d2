"""Figures and findings as short plain phrases, shared by the documents and the card."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tuner.analysis.evidence import ArmRow, Evidence, PhaseCost
from tuner.analysis.verdict.decision import Pair
from tuner.analysis.verdict.kinds import EffectSource, ExpectedSource, PairVerdict, Reference, VerdictKind
from tuner.analysis.verdict.looks import method_of
from tuner.analysis.verdict.references import Gain
from tuner.catalog.families import Search, camp_name
from tuner.catalog.training_options import changed
from tuner.core.records import Setting
from tuner.core.values import Scalar, short

HEADLINES: Mapping[VerdictKind, str] = {
    VerdictKind.WINNER: "Better",
    VerdictKind.TIE: "No practical difference",
    VerdictKind.INCONCLUSIVE: "Inconclusive",
    VerdictKind.SINGLE: "One arm only",
}
_NOISE = "one standard deviation of the noise between seeds"
_USELESS = 0.05


def interval(low: float | None, high: float | None) -> str:
    """Return an interval in words.

    >>> interval(0.95, 0.97), interval(None, None)
    ('0.95 to 0.97', 'no interval')
    """
    return "no interval" if low is None or high is None else f"{short(low)} to {short(high)}"


def p_value(p: float | None) -> str:
    """Return a p-value in words.

    >>> p_value(0.03125), p_value(0.00001), p_value(None)
    ('p = 0.031', 'p < 0.0001', 'p = -')
    """
    if p is None:
        return "p = -"
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def bare_p(p: float | None) -> str:
    """Return a p-value as a cell of a table.

    >>> bare_p(0.03125), bare_p(0.00001), bare_p(None)
    ('0.031', '< 0.0001', '-')
    """
    return p_value(p).removeprefix("p = ").removeprefix("p ")


def linked(text: str) -> str:
    """Turn arXiv numbers into Markdown links.

    >>> linked("Polyak 1964; arXiv 1711.05101")
    'Polyak 1964; [arXiv 1711.05101](https://arxiv.org/abs/1711.05101)'
    """
    return re.sub(r"arXiv ([0-9.]+[0-9])", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def percent(confidence: float) -> str:
    return f"{100 * confidence:g} %"


def expected(evidence: Evidence) -> str:
    found = evidence.expected
    if found.value is None:
        return "nothing: none of its runs completed"
    if found.source is ExpectedSource.SEARCH:
        return f"{short(found.value)} (one run of the search: expect less of a fresh one)"
    seeds = f"{found.n} fresh seed{'s' if found.n != 1 else ''}"
    if found.ci_low is None:
        return f"{short(found.value)} ({seeds})"
    span = interval(found.ci_low, found.ci_high)
    return f"{short(found.value)} ({percent(1 - evidence.alpha)} interval {span}, {seeds})"


def gain(evidence: Evidence, over: Reference) -> str:
    """Say what is gained over a reference, and when it is nothing or a loss, that."""
    found, name = evidence.gain(over), _reference(evidence, over)
    if found.gain is None:
        return f"over {name}: not measured ({found.reason})"
    if found.n_pairs == 0:
        return f"over {name}: none, {found.reason}"
    figures = f"{interval(found.ci_low, found.ci_high)}, {p_value(found.p)}, {found.n_pairs} pairs"
    return f"over {name}: {_signed(found.gain)} ({figures}){_judge(found)}"


def _judge(found: Gain) -> str:
    if found.gain is not None and found.p is not None and found.p <= _USELESS:
        return "" if found.gain > 0 else ": the reference is better; keep it"
    return ": no difference could be shown"


def _reference(evidence: Evidence, over: Reference) -> str:
    return f"the default of {evidence.setting.family}" if over is Reference.DEFAULT else "your current settings"


def _signed(value: float) -> str:
    return f"{value:+.4g} better" if value > 0 else f"{value:+.4g}"


def settings(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def schedule(evidence: Evidence) -> str:
    return timing(evidence.setting)


def timing(setting: Setting) -> str:
    """The kind, then its parameters that are not zero, the warm-up's shape only where there is a warm-up."""
    rest = {name: value for name, value in setting.schedule.items() if name != "kind" and value}
    if not rest.get("warmup"):
        rest.pop("warmup_shape", None)
    return str(setting.schedule["kind"]) + (f" ({settings(rest)})" if rest else "")


def training(evidence: Evidence) -> str:
    """What else differs from the plainest training; empty where nothing does."""
    return settings(changed(evidence.setting.training))


def started(evidence: Evidence) -> str:
    """Whose settings the search tried first; empty where it started from its space alone."""
    counts = [f"{n} setting{'s' * (n != 1)} of study {name}" for name, n in evidence.started_from.items()]
    return f"{', '.join(counts)}, tried first" if counts else ""


def confirmed(row: ArmRow) -> str:
    if row.mean is None:
        return "-"
    return f"{short(row.mean)} ({interval(row.ci_low, row.ci_high)})" if row.ci_low is not None else short(row.mean)


def rests_on(evidence: Evidence) -> list[str]:
    """Say what the verdict rests on: seeds, pairs, test, levels, the smallest effect that matters."""
    seeds = [row.n_confirmed for row in evidence.arms if row.n_confirmed]
    if not seeds:
        return ["Nothing but the search: no run on a fresh seed has ended. The best of many noisy trials is lucky."]
    span = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else str(seeds[0])
    lines = [
        f"Fresh seeds that the search never used: {span} per arm, with the same seeds, data order and initialisation in"
        " every arm. One finalist per arm was fixed before they were drawn."
    ]
    if any(pair.n_pairs for pair in evidence.pairs):
        levels = ", ".join(f"{look.level:.3g} at {look.seeds} seeds" for look in evidence.looks)
        method = method_of(evidence.looks, evidence.alpha)
        lines.append(f"The test: {method}. A pair is decided where p is at most {levels}: {evidence.alpha:g} together.")
    if evidence.min_effect is not None:
        least = short(evidence.min_effect)
        lines.append(f"What matters in practice: differences of {least} and more ({effect(evidence)}).")
    return lines


def effect(evidence: Evidence) -> str:
    """Say where the smallest effect that matters comes from."""
    where = {
        EffectSource.GIVEN: "as asked",
        EffectSource.OUTSIDE: f"{_NOISE}, measured on runs that do not enter the comparison",
        EffectSource.COMPARED: f"{_NOISE}, measured on the compared runs themselves",
    }
    return where[evidence.min_effect_source]


def family(evidence: Evidence) -> str:
    """Say what holds for the families, beyond these settings; empty where nothing was assessed."""
    found = evidence.family
    if found.kind is VerdictKind.WINNER:
        return f"{found.arm or camp_name(found.camp or '')} is the better family here: {found.reason}."
    if found.kind is VerdictKind.TIE:
        return f"The families tie as well: {found.reason}."
    return f"Not shown for the families: {found.reason}." if found.kind is VerdictKind.INCONCLUSIVE else ""


def expectations(evidence: Evidence) -> list[str]:
    """Say what to expect of the recommended setting: its value, the gains, the test split."""
    lines = [f"{evidence.metric} ({evidence.direction}d): {expected(evidence)}"]
    lines += [f"Gain {gain(evidence, over)}" for over in Reference]
    if evidence.test:
        figures = ", ".join(f"{name} {short(value)}" for name, value in evidence.test.items())
        lines.append(f"On the test split, looked at once: {figures}")
    return lines


def cost_row(cost: PhaseCost) -> tuple[str, ...]:
    """Return the cells of what a phase cost: runs, the same in full runs, seconds of training and of evaluation.

    >>> cost_row(PhaseCost(runs=4, train_seconds=3.0, eval_seconds=0.5, full_runs=2.0))
    ('4', '2', '3.0', '0.5')
    """
    return str(cost.runs), f"{cost.full_runs:.3g}", f"{cost.train_seconds:.1f}", f"{cost.eval_seconds:.1f}"


def cost_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    """Return the rows of what each phase with runs cost."""
    return [(phase.value, *cost_row(cost)) for phase, cost in evidence.cost.phases.items() if cost.runs]


def pair_verdict(pair: Pair) -> str:
    """Say what is known of two finalists."""
    said = {PairVerdict.A: f"{pair.a} is better", PairVerdict.B: f"{pair.b} is better"}
    return said.get(pair.verdict, "no practical difference" if pair.verdict is PairVerdict.TIE else "inconclusive")


def valid_for(evidence: Evidence) -> list[str]:
    """Say what the answer holds for, and what was not searched."""
    said = evidence.valid_for
    searched = "; ".join(f"{name} {span}" for name, span in said.searched.items())
    options = ", ".join(f"{name} {value}" for name, value in said.options.items())
    lines = {
        "training": settings(said.training),
        "warm start": started(evidence),
        "workload": said.workload,
        "options": options,
        "model and data": "as the workload gives them",
        "horizon": said.horizon_in_words,
        "devices": ", ".join(said.devices),
        "space": said.space,
        "torch": ", ".join(said.torch),
        "searched": searched,
        "in the space, but closed at this budget": ", ".join(said.not_searched) or "-",
    }
    return [f"{what}: {text}" for what, text in lines.items() if text or what == "searched"]


def searched(search: Search | None) -> str:
    """Return a range for people; empty for None.

    >>> searched(Search(0.01, 100, coordinate="effective_learning_rate")), searched(Search(1e-7, 0.01, or_zero=True))
    ('effective_learning_rate 0.01 to 100, log', '0 or 1e-07 to 0.01, log')
    """
    if search is None:
        return ""
    coordinate = search.coordinate.replace("one_minus_", "1 - ")
    zero = "0 or " if search.or_zero else ""
    return f"{coordinate} {zero}{search.low:g} to {search.high:g}{', log' if search.log else ''}".strip()
