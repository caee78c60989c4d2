"""The answer in short plain phrases, shared by the card and the documents. What the search taught: search_words.py."""

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
from tuner.core.values import Scalar, counted, short

HEADLINES: Mapping[VerdictKind, str] = {
    VerdictKind.WINNER: "Better",
    VerdictKind.TIE: "No practical difference",
    VerdictKind.INCONCLUSIVE: "Inconclusive",
    VerdictKind.SINGLE: "One arm only",
}
_NOISE = "one standard deviation of the noise between seeds"
_SHOWN = 0.05
"""A gain is called better, or a loss worse, if its p is at most this."""
_ROUNDING = 1e-12
"""A mean difference below this share of its interval is what floating-point sums leave of zero."""


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
    """Return a share in per cent.

    >>> percent(0.95)
    '95 %'
    """
    return f"{100 * confidence:g} %"


def expected(evidence: Evidence) -> str:
    """Say which value of the metric to expect of the recommended setting, and how well it is known."""
    expectation = evidence.expected
    if expectation.value is None:
        return "unknown: none of its runs completed"
    if expectation.source is ExpectedSource.SEARCH:
        return f"{short(expectation.value)} (the best run of the search: expect worse of a new run)"
    seeds = counted(expectation.n, "fresh seed")
    if expectation.ci_low is None:
        return f"{short(expectation.value)} ({seeds})"
    span = interval(expectation.ci_low, expectation.ci_high)
    return f"{short(expectation.value)} ({percent(1 - evidence.alpha)} interval {span}, {seeds})"


def gain(evidence: Evidence, over: Reference) -> str:
    """Say how much better the recommended setting is than a reference: better, worse, or not shown to differ."""
    measured, name = evidence.gain(over), _reference(evidence, over)
    if measured.gain is None:
        return f"over {name}: not measured ({measured.reason})"
    if measured.n_pairs == 0:
        return f"over {name}: none, {measured.reason}"
    low, high, level = measured.ci_low, measured.ci_high, percent(1 - evidence.alpha)
    test = f"{p_value(measured.p)}, {counted(measured.n_pairs, 'pair')}"
    if not is_shown(measured):
        return (
            f"over {name}: no difference shown ({measured.gain:+.4g}, {level} interval {interval(low, high)}, {test})"
        )
    if measured.gain > 0:
        return f"over {name}: {measured.gain:.4g} better ({level} interval {interval(low, high)}, {test})"
    loss = "no interval" if low is None or high is None else interval(-high, -low)
    return f"over {name}: {-measured.gain:.4g} worse ({level} interval {loss}, {test}); keep {name}"


def is_shown(measured: Gain) -> bool:
    """Whether a measured gain or loss can be told from zero."""
    return measured.p is not None and measured.p <= _SHOWN


def _reference(evidence: Evidence, over: Reference) -> str:
    return f"the default of {evidence.setting.family}" if over is Reference.DEFAULT else "your current settings"


def settings(values: Mapping[str, Scalar]) -> str:
    """Return names with their values.

    >>> settings({"learning_rate": 0.0123456, "nesterov": True})
    'learning_rate 0.01235, nesterov True'
    """
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def schedule(evidence: Evidence) -> str:
    """Return the schedule of the recommended setting; see :func:`timing`."""
    return timing(evidence.setting)


def timing(setting: Setting) -> str:
    """Return a setting's schedule: its kind, and those parameters that are not zero."""
    rest = {name: value for name, value in setting.schedule.items() if name != "kind" and value}
    if not rest.get("warmup"):
        rest.pop("warmup_shape", None)
    return str(setting.schedule["kind"]) + (f" ({settings(rest)})" if rest else "")


def training(evidence: Evidence) -> str:
    """Return the training options that are not at their defaults; empty where all are."""
    return settings(changed(evidence.setting.training))


def started(evidence: Evidence) -> str:
    """Say which earlier studies' settings were tried first; empty where none were."""
    counts = [f"{counted(n, 'setting')} of study {name}" for name, n in evidence.started_from.items()]
    return f"{', '.join(counts)}, tried first" if counts else ""


def confirmed(row: ArmRow) -> str:
    """Return an arm's mean on fresh seeds with its interval; a dash where there is none."""
    if row.mean is None:
        return "-"
    return f"{short(row.mean)} ({interval(row.ci_low, row.ci_high)})" if row.ci_low is not None else short(row.mean)


def rests_on(evidence: Evidence) -> list[str]:
    """Say what the verdict rests on: seeds, test, levels, the smallest difference that matters."""
    seeds = [row.n_confirmed for row in evidence.arms if row.n_confirmed]
    if not seeds:
        return ["The search alone: no run on a fresh seed has ended. The best of many noisy trials is partly luck."]
    number = f"{min(seeds)} to {max(seeds)} fresh seeds" if min(seeds) < max(seeds) else counted(seeds[0], "fresh seed")
    lines = [
        f"{number} per arm that the search never used, with the same seeds, data order and initialisation in every arm."
        " Each arm's finalist was fixed before the seeds were drawn."
    ]
    if any(pair.n_pairs for pair in evidence.pairs):
        method = method_of(evidence.looks, evidence.alpha)
        lines.append(f"The test: {method}. A pair is decided if p is at most {levels(evidence)}.")
    if evidence.min_effect is not None:
        least = short(evidence.min_effect)
        lines.append(f"Differences below {least} count as none in practice (min_effect: {effect(evidence)}).")
    return lines


def levels(evidence: Evidence) -> str:
    """Say how small p must be at each look at the data."""
    each = ", ".join(f"{look.level:.3g} at {counted(look.seeds, 'seed')}" for look in evidence.looks)
    return f"{each} (error rate in total: {evidence.alpha:g})"


def effect(evidence: Evidence) -> str:
    """Say where the smallest difference that matters comes from."""
    where = {
        EffectSource.GIVEN: "as set",
        EffectSource.OUTSIDE: f"{_NOISE}, measured on runs outside the comparison",
        EffectSource.COMPARED: f"{_NOISE}, measured on the compared runs themselves",
    }
    return where[evidence.min_effect_source]


def family(evidence: Evidence) -> str:
    """Say what holds for the families, beyond these settings; empty where nothing was assessed."""
    verdict = evidence.family
    if verdict.kind is VerdictKind.WINNER:
        return f"{verdict.arm or camp_name(verdict.camp or '')} is the better family here: {verdict.reason}."
    if verdict.kind is VerdictKind.TIE:
        return f"No practical difference between the families either: {verdict.reason}."
    return f"Inconclusive about the families: {verdict.reason}." if verdict.kind is VerdictKind.INCONCLUSIVE else ""


def expectations(evidence: Evidence) -> list[str]:
    """Say what to expect of the recommended setting: its value, the gains, the test split."""
    lines = [f"{evidence.metric} ({evidence.direction}d): {expected(evidence)}"]
    lines += [f"Gain {gain(evidence, over)}" for over in Reference]
    if evidence.test:
        figures = ", ".join(f"{name} {short(value)}" for name, value in evidence.test.items())
        lines.append(f"On the test split, evaluated once: {figures}")
    return lines


COST_HEAD = ("phase", "runs", "in full runs", "training, s", "evaluation, s")


def cost_row(cost: PhaseCost) -> tuple[str, ...]:
    """Return the cells of ``COST_HEAD`` after the first.

    >>> cost_row(PhaseCost(runs=4, train_seconds=3.0, eval_seconds=0.5, full_runs=2.0))
    ('4', '2', '3.0', '0.5')
    """
    return str(cost.runs), f"{cost.full_runs:.3g}", f"{cost.train_seconds:.1f}", f"{cost.eval_seconds:.1f}"


def cost_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    """Return a row of ``COST_HEAD`` for each phase that had runs."""
    return [(phase.value, *cost_row(cost)) for phase, cost in evidence.cost.phases.items() if cost.runs]


def pair_verdict(pair: Pair) -> str:
    """Return the verdict about two finalists."""
    verdicts = {
        PairVerdict.A: f"{pair.a} is better",
        PairVerdict.B: f"{pair.b} is better",
        PairVerdict.TIE: "no practical difference",
        PairVerdict.INCONCLUSIVE: "inconclusive",
    }
    return verdicts[pair.verdict]


def difference(pair: Pair) -> str:
    """Return the mean difference of two finalists with its sign; what is left by rounding of sums is zero.

    >>> from dataclasses import replace
    >>> pair = Pair("a", "b", -1.6e-17, -0.01, 0.02, 1.0, 1.0, 0.5, 7, PairVerdict.TIE)
    >>> difference(pair), difference(replace(pair, difference=0.01234567)), difference(replace(pair, difference=None))
    ('0', '+0.01235', '-')
    """
    if pair.difference is None:
        return "-"
    reach = max(abs(pair.ci_low or 0.0), abs(pair.ci_high or 0.0))
    return "0" if abs(pair.difference) <= _ROUNDING * reach else f"{pair.difference:+.4g}"


def valid_for(evidence: Evidence) -> list[str]:
    """Say what the answer holds for, and what was not searched."""
    valid = evidence.valid_for
    ranges = "; ".join(f"{name} {span}" for name, span in valid.searched.items())
    options = ", ".join(f"{name} {value}" for name, value in valid.options.items())
    lines = {
        "training": settings(valid.training),
        "warm start": started(evidence),
        "workload": valid.workload,
        "options": options,
        "model and data": "as the workload gives them",
        "horizon": valid.horizon_in_words,
        "devices": ", ".join(valid.devices),
        "space": valid.space,
        "torch": ", ".join(valid.torch),
        "searched": ranges,
        "in the space, but not searched at this budget": ", ".join(valid.not_searched) or "-",
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
