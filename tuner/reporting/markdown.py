"""The recommendation as Markdown: the whole page, and the short note that MLflow's parent run shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tuner.analysis.evidence import ArmRow, Evidence
from tuner.analysis.findings import Findings
from tuner.analysis.verdict.decision import Pair
from tuner.catalog.training_options import told
from tuner.core.values import short
from tuner.reporting import search_words, words
from tuner.reporting.next_steps import next_steps

PICTURES = (
    ("learning_curves.png", "Validation metric of the finalists"),
    ("values_by_arm.png", "Values of all runs by arm"),
)


def markdown(evidence: Evidence, pictures: bool = True, findings: Findings | None = None) -> str:
    """Return the page ``recommendation.md``: answer first, then what it rests on, and what the search taught."""
    parts = [
        f"# {_title(evidence)}",
        evidence.verdict.sentence,
        words.family(evidence),
        _why(evidence),
        "## Recommended settings",
        _settings(evidence),
        "## What to expect",
        _expectation(evidence),
        "## Arms",
        leaderboard(evidence),
        "## Differences between finalists",
        _pairs(evidence),
        *(_taught(findings) if findings is not None else ()),
        "## Caveats",
        _caveats(evidence),
        "## Valid for",
        _valid_for(evidence),
        "## What it cost",
        _cost(evidence),
        "## What to do next",
        _list(f"`{step.command}` ({step.why})" if step.command else step.why for step in next_steps(evidence)),
    ]
    if pictures:
        parts += ["## Pictures", *(f"![{title}]({name})" for name, title in PICTURES)]
    return "\n\n".join(part for part in parts if part) + "\n"


def note(evidence: Evidence) -> str:
    """Return the note of the study's parent run: verdict, settings, leaderboard, caveats."""
    parts = [
        f"### {_title(evidence)}",
        evidence.verdict.sentence,
        words.family(evidence),
        f"**Recommended: {told(evidence.setting)}** ({evidence.camp_name})",
        f"Expected {evidence.metric}: {words.expected(evidence)}",
        leaderboard(evidence),
        _caveats(evidence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def leaderboard(evidence: Evidence) -> str:
    """Return the table of arms, best first."""
    search, cost = ("best of the search", "trials", "in full runs", "diverged"), ("state B/param", "ms/step")
    head = ("arm", "fresh seeds: mean", "seeds", *search, *cost, "")
    return table(head, [_arm(evidence, row) for row in evidence.arms])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell does not end it, not even in code.

    >>> print(table(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def _title(evidence: Evidence) -> str:
    head = words.HEADLINES[evidence.verdict.kind]
    if evidence.verdict.arm:
        return f"{evidence.study}: {evidence.verdict.arm} is better"
    return f"{evidence.study}: {head[0].lower()}{head[1:]}"


def _why(evidence: Evidence) -> str:
    reason = f" ({evidence.verdict.reason})" if evidence.verdict.reason else ""
    return f"Recommended: **{evidence.arm}** ({evidence.camp_name}), because {evidence.why}{reason}."


def _settings(evidence: Evidence) -> str:
    rows = [(f"`{name}`", short(value), f"{value!r}") for name, value in evidence.setting.hyperparameters.items()]
    rows += [(f"`schedule.{name}`", short(value), f"{value!r}") for name, value in evidence.schedule.items()]
    rows += [(f"`training.{name}`", short(value), f"{value!r}") for name, value in evidence.setting.training.items()]
    return f"Optimizer `{evidence.setting.family}`, trial {evidence.trial} of its arm.\n\n" + table(
        ("setting", "value", "exact"), rows
    )


def _expectation(evidence: Evidence) -> str:
    return _list(words.expectations(evidence))


def _arm(evidence: Evidence, row: ArmRow) -> tuple[str, ...]:
    marks = ["recommended"] if row.arm == evidence.arm else []
    marks += [f"out after {row.dropped_after} seeds"] if row.dropped_after else []
    marks += [f"{row.n_failed} failed"] if row.n_failed else []
    return (
        f"**{row.arm}**" if row.arm == evidence.arm else row.arm,
        words.confirmed(row),
        str(row.n_confirmed),
        short(row.best_value),
        str(row.n_trials),
        f"{row.full_runs:.3g}",
        str(row.n_diverged),
        "-" if row.state_bytes_per_param is None else str(row.state_bytes_per_param),
        short(row.seconds_per_step * 1000 if row.seconds_per_step is not None else None),
        ", ".join(marks),
    )


def _pairs(evidence: Evidence) -> str:
    if not any(pair.n_pairs for pair in evidence.pairs):
        return "No two finalists have been trained on common fresh seeds."
    head = ("a", "b", "a − b", "interval", "p", "p (Holm)", "P(a better)", "pairs", "verdict")
    looks = ", ".join(f"{look.level:.3g} at {look.seeds} seeds" for look in evidence.looks)
    effect = "" if evidence.min_effect is None else f" Practical equality: within ±{short(evidence.min_effect)}."
    text = (
        "Same seeds, data order and initialisation in every arm; exact sign-flip test of the mean paired difference,"
        f" decided where p is at most {looks} (together {evidence.alpha:g}).{effect}"
        f" Intervals: {words.percent(1 - evidence.alpha)}, BCa bootstrap."
    )
    return text + "\n\n" + table(head, [_pair(pair) for pair in evidence.pairs])


def _pair(pair: Pair) -> tuple[str, ...]:
    return (
        pair.a,
        pair.b,
        "-" if pair.difference is None else f"{pair.difference:+.4g}",
        words.interval(pair.ci_low, pair.ci_high),
        words.bare_p(pair.p),
        words.bare_p(pair.p_holm),
        short(pair.prob_a_better),
        str(pair.n_pairs),
        words.pair_verdict(pair),
    )


def _taught(findings: Findings) -> list[str]:
    """The sections on what the search taught."""
    budget = [row for curve in findings.curves if curve.budgets for row in search_words.budget_rows(curve)]
    shares = search_words.importance_rows(findings.importances)
    rungs = search_words.rung_rows(findings)
    diverged = ", ".join(f"{arm} {search_words.diverged_share(findings, arm)}" for arm in findings.points)
    return [
        "## Best at a budget",
        search_words.BUDGET_MEANING,
        table(search_words.BUDGET_HEAD, budget) if budget else "",
        _list(search_words.budget_notes(findings)),
        "## Importance of the settings",
        search_words.IMPORTANCE_MEANING,
        table(search_words.IMPORTANCE_HEAD, shares) if shares else "",
        _list(search_words.importance_notes(findings.importances)),
        "## Sensitivity to the learning rate",
        search_words.SENSITIVITY_MEANING,
        _list(search_words.sensitivity_notes(findings)),
        *(
            ("## Short runs and full ones", search_words.RUNGS_MEANING, table(search_words.RUNGS_HEAD, rungs))
            if rungs
            else ()
        ),
        "## Edges and divergence",
        _list([*search_words.edge_notes(findings), f"Trials that diverged in the search: {diverged}."]),
    ]


def _caveats(evidence: Evidence) -> str:
    return _list(f"{caveat.text} (`{caveat.code}`)" for caveat in evidence.caveats)


def _valid_for(evidence: Evidence) -> str:
    rest = "Another batch size, horizon or regulariser wants a search of its own."
    return f"{_list(words.valid_for(evidence))}\n\n{rest}"


def _cost(evidence: Evidence) -> str:
    return table(("phase", "runs", "in full runs", "seconds of training", "of evaluation"), words.cost_rows(evidence))


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
