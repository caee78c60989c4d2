"""The report as one HTML page: what goes where; the words come from ``reporting.words``, the layout is a template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import ArmRow, Evidence
from tuner.analysis.verdict.decision import Pair
from tuner.analysis.verdict.kinds import ExpectedSource, Reference
from tuner.catalog.training_options import changed
from tuner.core.errors import InputError
from tuner.core.values import Scalar, short
from tuner.reporting import card, search_words, words
from tuner.reporting.live import clock
from tuner.reporting.next_steps import next_steps
from tuner.reporting.report import contest_figures, search_figures
from tuner.reporting.report.svg import Picture, Style, styles

OPEN_ARMS = 3
"""With more arms than these, the slices of all but the recommended one are folded."""
CONTENTS = (
    ("verdict", "Verdict"),
    ("why", "Why"),
    ("rests-on", "Rests on"),
    ("settings", "Settings"),
    ("arms", "Arms"),
    ("differences", "Differences"),
    ("curves", "Curves"),
    ("budget", "Budget"),
    ("slices", "Slices"),
    ("importance", "Importance"),
    ("sensitivity", "Sensitivity"),
    ("cost", "Cost"),
    ("caveats", "Caveats"),
    ("code", "Code"),
)
"""The sections by their ids, in the order of the page."""
ARM_HEAD = ("arm", "fresh seeds: mean", "seeds", "best of search", "trials", "diverged", "state B/param", "ms/step", "")
PAIR_HEAD = ("a − b", "mean", "interval", "p", "p (Holm)", "P(a better)", "pairs", "verdict")
_GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖"}


def html(analysis: Analysis) -> str:
    """Return the whole page: no script, nothing loaded from elsewhere, the same bytes for the same records."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tuner.reporting.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ticks"] = _ticks
    page = environment.get_template("report.html").render(**_content(analysis))
    return re.sub(r"\n\s*\n+", "\n", page)


def _content(analysis: Analysis) -> dict[str, Any]:
    evidence = analysis.evidence
    measured = [pair for pair in evidence.pairs if pair.n_pairs]
    shown, untouched = _settings(evidence)
    looks = styles([arm.arm for arm in analysis.records.spec.arms], [row.arm for row in evidence.arms])
    return {
        "e": evidence,
        "headline": card.headline(evidence),
        "setting": words.settings(evidence.setting.hyperparameters),
        "schedule": words.schedule(evidence),
        "training": words.training(evidence),
        "facts": _facts(analysis),
        "why": f"Recommended: {evidence.arm} ({evidence.camp_name}): {evidence.why}.",
        "rests": words.rests_on(evidence),
        "settings": shown,
        "untouched": untouched,
        "expect": words.expectations(evidence),
        "legend": [(arm, style.name, _GLYPHS[style.marker]) for arm, style in looks.items() if style.spoken],
        "hidden": [arm for arm, style in looks.items() if not style.spoken],
        "arms": _drawn(contest_figures.arms(analysis, looks)),
        "arm_rows": [_arm(analysis, row, looks[row.arm]) for row in evidence.arms],
        "differences": _drawn(contest_figures.differences(analysis, looks)),
        "pairs": [_pair(pair) for pair in measured if evidence.arm in (pair.a, pair.b)],
        "other_pairs": [_pair(pair) for pair in measured if evidence.arm not in (pair.a, pair.b)],
        "curves": _drawn(contest_figures.learning_curves(analysis, looks)),
        "peaks": _peaks(evidence),
        **_search(analysis, looks),
        "cost": _cost(evidence),
        "diverged": [_searched(analysis, row) for row in evidence.arms],
        "valid": words.valid_for(evidence),
        "steps": [f"`{step.command}` ({step.why})" if step.command else step.why for step in next_steps(evidence)],
        "exports": _exports(evidence),
        "contents": CONTENTS,
        "arm_head": ARM_HEAD,
        "pair_head": PAIR_HEAD,
        "family": words.family(evidence),
    }


def _search(analysis: Analysis, looks: dict[str, Style]) -> dict[str, Any]:
    """The figures and rows of what the search taught."""
    found, ranked = analysis.findings, [row.arm for row in analysis.evidence.arms]
    budget = search_figures.best_at_budget(analysis, looks)
    sliced = {arm: search_figures.slices(analysis, arm, looks[arm]) for arm in ranked}
    unfolded = set(ranked if len(ranked) <= OPEN_ARMS else [analysis.evidence.arm])
    important = {i.arm: search_figures.importance(i, looks[i.arm]) for i in found.importances if i.shares}
    return {
        "budget": [_panel(arm, [budget[arm]]) for arm in ranked if arm in budget],
        "budget_rows": [row for curve in found.curves if curve.budgets for row in search_words.budget_rows(curve)],
        "budget_notes": search_words.budget_notes(found),
        "slices": [
            _panel(arm, sliced[arm], "" if sliced[arm] else "no completed trial to draw", arm in unfolded)
            for arm in ranked
        ],
        "edges": search_words.edge_notes(found),
        "importance": [_panel(arm, [important[arm]]) for arm in ranked if arm in important],
        "importance_notes": search_words.importance_notes(found.importances),
        "sensitivity": _drawn(search_figures.sensitivity(analysis, looks)),
        "sensitivity_notes": search_words.sensitivity_notes(found),
        "meaning": {
            "budget": search_words.BUDGET_MEANING,
            "importance": search_words.IMPORTANCE_MEANING,
            "sensitivity": search_words.SENSITIVITY_MEANING,
            "rungs": search_words.RUNGS_MEANING,
        },
        "rung_head": search_words.RUNGS_HEAD,
        "rung_rows": search_words.rung_rows(found),
        "budget_head": search_words.BUDGET_HEAD,
    }


def _drawn(picture: Picture | None) -> dict[str, Any] | None:
    return None if picture is None else {"svg": Markup(picture.svg), "caption": picture.caption}


def _panel(arm: str, pictures: Sequence[Picture], note: str = "", is_open: bool = True) -> dict[str, Any]:
    return {"arm": arm, "pictures": [_drawn(p) for p in pictures], "note": note, "is_open": is_open}


def _ticks(text: str) -> Markup:
    """What stands between backticks as code; everything else escaped."""
    parts = [f"<code>{escape(part)}</code>" if i % 2 else str(escape(part)) for i, part in enumerate(text.split("`"))]
    return Markup("".join(parts))


def _facts(analysis: Analysis) -> list[tuple[str, str, str]]:
    """The four figures at the top: label, figure, what it means."""
    evidence, found = analysis.evidence, analysis.evidence.expected
    span = "" if found.ci_low is None else words.interval(found.ci_low, found.ci_high)
    seeds = (
        f"{found.n} fresh seeds" if found.source is ExpectedSource.CONFIRMATION else "one run of the search, too rosy"
    )
    gain = evidence.gain(Reference.DEFAULT)
    span_of_gain = f"{_brief(gain.ci_low)} to {_brief(gain.ci_high)}, {gain.n_pairs} pairs"
    seconds = evidence.cost.total.train_seconds + evidence.cost.total.eval_seconds
    return [
        (f"expected {evidence.metric}", short(found.value), ", ".join(part for part in (span, seeds) if part)),
        ("gain over the default", "-" if gain.gain is None else f"{gain.gain:+.3g}", gain.reason or span_of_gain),
        (
            "spent",
            f"{evidence.cost.total.runs} runs",
            f"{clock(seconds)} of training and evaluation" if seconds else "their time is not recorded",
        ),
        ("caveats", str(len(evidence.caveats)), "read them below before you rely on this"),
    ]


def _brief(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2g}"


def _settings(evidence: Evidence) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """The settings that a reader needs, and the training options that nobody touched: name, value, exact value."""
    told = changed(evidence.setting.training)
    rest = {name: value for name, value in evidence.setting.training.items() if name not in told}
    parts = (("", evidence.setting.hyperparameters), ("schedule.", evidence.schedule), ("training.", told))
    return [row for at, values in parts for row in _values(at, values)], _values("training.", rest)


def _values(prefix: str, values: Mapping[str, Scalar]) -> list[tuple[str, str, str]]:
    found = [(f"{prefix}{name}", short(value), str(value)) for name, value in values.items()]
    return [(name, brief, "" if _same(brief, exact) else exact) for name, brief, exact in found]


def _same(brief: str, exact: str) -> bool:
    return brief == exact or exact == f"{brief}.0"


def _arm(analysis: Analysis, row: ArmRow, style: Style) -> dict[str, Any]:
    marks = ["recommended"] if row.arm == analysis.evidence.arm else []
    marks += [f"out after {row.dropped_after} seeds"] if row.dropped_after else []
    marks += [f"{row.n_failed} runs failed"] if row.n_failed else []
    marks += [f"{row.n_lost} runs lost"] if row.n_lost else []
    state = "-" if row.state_bytes_per_param is None else short(row.state_bytes_per_param)
    cells = (
        words.confirmed(row),
        str(row.n_confirmed),
        short(row.best_value),
        str(row.n_trials),
        search_words.diverged_share(analysis.findings, row.arm),
        state,
        short(None if row.seconds_per_step is None else row.seconds_per_step * 1000),
        ", ".join(marks) or "-",
    )
    return {"arm": row.arm, "colour": style.name, "glyph": _GLYPHS[style.marker], "cells": cells}


def _pair(pair: Pair) -> tuple[str, ...]:
    return (
        f"{pair.a} − {pair.b}",
        "-" if pair.difference is None else f"{pair.difference:+.4g}",
        words.interval(pair.ci_low, pair.ci_high),
        words.bare_p(pair.p),
        words.bare_p(pair.p_holm),
        short(pair.prob_a_better),
        str(pair.n_pairs),
        words.pair_verdict(pair),
    )


def _peaks(evidence: Evidence) -> list[tuple[str, str]]:
    """Of each finalist what the figure of the schedules cannot show: its peak rate and the schedule's parameters."""
    return [
        (row.arm, f"learning rate {short(row.best.hyperparameters.get('learning_rate'))}, {words.timing(row.best)}")
        for row in evidence.arms
        if row.best is not None
    ]


def _cost(evidence: Evidence) -> list[tuple[str, ...]]:
    return [*words.cost_rows(evidence), ("total", *words.cost_row(evidence.cost.total))]


def _searched(analysis: Analysis, row: ArmRow) -> tuple[str, ...]:
    return row.arm, f"{row.full_runs:.3g}", search_words.diverged_share(analysis.findings, row.arm)


def _exports(evidence: Evidence) -> list[tuple[str, str]]:
    """The recommended setting in each tool's words; what a tool cannot express is said in its place."""
    from tuner.exports import TARGETS
    from tuner.exports.finalist import export_finalist

    found = []
    for target in TARGETS:
        try:
            found.append((target, export_finalist(evidence, target).text))
        except InputError as error:
            found.append((target, f"# {error}"))
    return found
