"""What could make the answer wrong or narrow, in plain words; each caveat has a stable code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from tuner.analysis.evidence import Caveat
from tuner.analysis.recorded_caveats import recorded_failures, recorded_seeds, recorded_trials
from tuner.analysis.searched.edges import edges
from tuner.analysis.searched.rung_agreement import LIES, best_known, rung_agreements
from tuner.analysis.searched.spending import exhausted, in_full_runs, smallest, spent, unequal
from tuner.analysis.statistics.estimates import equivalent
from tuner.analysis.verdict.contest import COMPARED, INCONCLUSIVE, TIE, WINNER, Contest, all_in_catalog, pair_rows
from tuner.analysis.verdict.decision import FEWEST_PAIRS, NOT_ASSESSED
from tuner.analysis.verdict.family import FamilyVerdict
from tuner.analysis.verdict.finalists import competing, ended_trials
from tuner.analysis.verdict.plan import plan_cost
from tuner.analysis.verdict.samples import there
from tuner.catalog.families import camp_name
from tuner.catalog.schedules import SCHEDULES
from tuner.config.spec import OPTIMISE, StudySpec
from tuner.core.records import Outcome, Phase, RunRecord, Source, TrialRecord
from tuner.core.values import short

MANY_DIVERGED = 0.25

Found = list[Caveat]
Check = Callable[[StudySpec, Sequence[TrialRecord], Sequence[RunRecord], Contest], Found]


def caveats_of(
    spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord], state: Contest, family: FamilyVerdict
) -> tuple[Caveat, ...]:
    """Return all caveats, the gravest kinds first."""
    checks: tuple[Check, ...] = (
        _seeds,
        _unstable,
        _edge,
        _widened,
        _followed,
        _diverged,
        _failed,
        _budget,
        _short_horizons,
        _references,
        _effect,
        _again,
        _fairness,
    )
    if spec.recording is not None:
        about = (recorded_seeds, _unstable, _edge, _followed, _diverged, recorded_failures, recorded_trials)
        checks = (*about, _effect, _fairness)
    found = [caveat for check in checks for caveat in check(spec, trials, runs, state)]
    return (*found, *_search_luck(trials, state, family))


def _seeds(spec: StudySpec, _t: Sequence[TrialRecord], _r: Sequence[RunRecord], state: Contest) -> Found:
    found = []
    asked, seen = spec.confirmation.total, _fewest(state)
    if state.samples.empty:
        return [Caveat("not_confirmed", "Nothing was trained on fresh seeds: the value is the search's own, too rosy.")]
    planned = state.looks[-1].seeds
    if planned < asked:
        text = f"Seeds were capped at {planned} per arm by max_runs ({asked} were asked)."
        found.append(Caveat("seeds_capped", text))
    if seen < FEWEST_PAIRS:
        text = f"Only {seen} seeds per arm: fewer than {FEWEST_PAIRS} pairs can never be significant at 0.05."
        found.append(Caveat("few_seeds", text))
    if state.ahead is not None and seen < state.ahead.seeds:
        text = f"The confirmation is not finished: {seen} of {state.ahead.seeds} seeds per arm."
        found.append(Caveat("unfinished", text))
    lost = sum(_count(state, arm) - len(there(row)) for arm, row in state.samples.scores.items())
    if lost:
        found.append(Caveat("lost_runs", f"Confirmation runs lost with their machine, and missing here: {lost}."))
    return found


def _unstable(_spec: StudySpec, _t: Sequence[TrialRecord], _r: Sequence[RunRecord], state: Contest) -> Found:
    found = []
    for arm, row in state.samples.scores.items():
        bad = int((row == -float("inf")).sum())
        if bad:
            text = (
                f"{bad} of {len(there(row))} confirmation runs of {arm} diverged or failed. They count as lost"
                " pairs, scored just below the worst run that completed."
            )
            found.append(Caveat("diverged_on_fresh_seeds", text))
    return found


def _edge(spec: StudySpec, trials: Sequence[TrialRecord], _r: Sequence[RunRecord], state: Contest) -> Found:
    arm = state.recommended
    if arm is None:
        return []
    found = edges(spec, trials, {arm: state.chosen[arm]})
    by_itself = "" if spec.widen or spec.recording is not None else " (with widen: true a study does so by itself)"
    advice = f"better settings may lie beyond it. Widen the range in the space and search on{by_itself}."
    return [Caveat("edge_of_range", f"{edge.text}: {advice}") for edge in found]


def _widened(spec: StudySpec, _t: Sequence[TrialRecord], _r: Sequence[RunRecord], _s: Contest) -> Found:
    """Ranges that the search widened by itself: what is recommended may lie outside of those that were asked for."""
    ends: dict[tuple[str, str, str], list[float]] = {}
    for one in (end for widening in spec.widened for end in widening.moved):
        ends.setdefault((one.dimension, one.arm, one.side), [one.old]).append(one.new)
    more = f"Every arm got {sum(widening.trials for widening in spec.widened)} more full runs' worth."
    return [
        Caveat(
            "range_widened",
            f"{name} of {arm} was widened at its {side} end from {short(seen[0])} to {short(seen[-1])}, because the"
            f" arm's best trial lay there. {more}",
        )
        for (name, arm, side), seen in ends.items()
    ]


def _followed(_spec: StudySpec, trials: Sequence[TrialRecord], _r: Sequence[RunRecord], state: Contest) -> Found:
    """A schedule that followed a metric: what its values mean."""
    found = []
    for arm, index in state.chosen.items():
        schedule = next(t.setting.schedule for t in trials if t.arm == arm and t.index == index)
        kind = SCHEDULES.get(str(schedule["kind"]))  # a recording may have kinds of its own
        if kind is not None and kind.follows_metric:
            signal = schedule.get("signal", "a metric")
            found.append(Caveat("schedule_follows_metric", f"{arm} follows {signal}: {kind.note}"))
    return found


def _diverged(spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], _s: Contest) -> Found:
    found = []
    for arm in (a.arm for a in spec.arms):
        mine = _explored(runs, arm)
        bad = sum(run.outcome is Outcome.DIVERGED for run in mine)
        if mine and bad > MANY_DIVERGED * len(mine):
            text = f"{bad} of {len(mine)} runs of {arm} diverged in the search: its range reaches too far up."
            found.append(Caveat("many_diverged", text))
    return found


def _failed(spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], _s: Contest) -> Found:
    counts = Counter(run.spec.arm for run in runs if run.outcome is Outcome.FAILED)
    if not counts:
        return []
    where = ", ".join(f"{arm} {count}" for arm, count in sorted(counts.items()))
    return [Caveat("failed_runs", f"Runs failed in the workload's own code ({where}); see `tuner status {spec.name}`.")]


def _budget(spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], state: Contest) -> Found:
    begun = spent(spec, runs)
    none = [arm for arm, cost in begun.items() if not cost]
    found = []
    if none:
        found.append(Caveat("arm_missing", f"No run of {', '.join(none)} has ended; nothing is said about it."))
    found += _full_runs(spec, runs) if in_full_runs(spec) else _proposals(spec, runs)
    barren = [arm for arm, cost in begun.items() if cost and arm not in state.chosen]
    if barren:
        text = f"No run of {', '.join(barren)} completed in the search: not compared."
        found.append(Caveat("arm_without_result", text))
    return found


def _proposals(spec: StudySpec, runs: Sequence[RunRecord]) -> Found:
    """Whether arms compete with fewer proposals than they had, or were to have."""
    planned, most = spec.budget.trials_per_arm, competing(spec, runs)
    counts = {ended_trials(runs, arm.arm) for arm in spec.arms}
    if planned is not None and most < planned:
        text = f"The search ended early: the first {most} of {planned} trials of each arm compete."
        return [Caveat("budget_cut", text)]
    if planned is None and len(counts) > 1:
        return [Caveat("budget_cut", f"Only the first {most} trials of each arm compete, so that budgets are equal.")]
    return []


def _full_runs(spec: StudySpec, runs: Sequence[RunRecord]) -> Found:
    """The same where budgets are counted in full runs."""
    costs, planned = spent(spec, runs), spec.budget.trials_per_arm
    if spec.allocation == OPTIMISE:
        return [Caveat("unequal_budgets", f"{unequal(costs)}.")] if len(costs) > 1 else []
    found, least, most = [], smallest(spec, runs), max(costs.values(), default=0.0)
    if planned is not None and least <= planned - 1.0:
        text = f"The search ended early: {least:.3g} of {planned} full runs' worth of each arm compete."
        found.append(Caveat("budget_cut", text))
    elif most - least > 1.0:
        text = f"Only the first {least:.3g} full runs' worth of each arm compete, so that budgets are equal."
        found.append(Caveat("budget_cut", text))
    done = [f"{arm} (after {costs[arm]:.3g})" for arm in exhausted(spec, runs) if most - costs[arm] > 1.0]
    if done:
        text = f"No new setting was left to try before the budget was spent, in full runs' worth: {', '.join(done)}."
        found.append(Caveat("settings_exhausted", text))
    return found


def _short_horizons(spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], _s: Contest) -> Found:
    """Where short runs ranked an arm's settings unlike full ones."""
    found = []
    for row in best_known(rung_agreements(spec, runs)):
        if row.correlation is not None and row.correlation < LIES:
            text = (
                f"Short runs rank {row.arm}'s settings unlike full ones (rank correlation {row.correlation:.1f} over"
                f" {row.n} settings): the ladder gave more of its budget to full runs."
            )
            found.append(Caveat("short_horizon_lies", text))
    return found


def _references(spec: StudySpec, _t: Sequence[TrialRecord], _r: Sequence[RunRecord], state: Contest) -> Found:
    plan = spec.confirmation
    if not plan.references or plan.max_runs is None or not state.looks:
        return []
    cost = plan_cost(spec, len(state.chosen))
    wanted = cost.seeds * (1 + (spec.current is not None))
    if cost.references >= wanted:
        return []
    text = f"max_runs = {plan.max_runs} leaves no room to measure every gain over the default and current settings."
    return [Caveat("references_capped", text)]


def _effect(spec: StudySpec, _t: Sequence[TrialRecord], _r: Sequence[RunRecord], state: Contest) -> Found:
    found = []
    if not state.min_effect_given and not state.samples.barren and len(state.chosen) > 1:
        compared = state.min_effect_source == COMPARED
        where = "these very runs, for want of others" if compared else "other runs of the same settings"
        text = (
            f"What matters in practice was not given: differences below {short(state.min_effect)} (one standard"
            f" deviation of the seed noise, measured on {where}) count as none. Give min_effect."
        )
        found.append(Caveat("min_effect_from_comparison" if compared else "min_effect_assumed", text))
    if state.kind == INCONCLUSIVE and state.ahead is None and not state.samples.barren:
        text = "The noise between seeds is as large as the differences between the arms that are left."
        found.append(Caveat("seed_noise_dominates", text))
    if state.kind == TIE:
        text = "Costs broke the tie: state per parameter, then settings to tune, then time per step."
        if not all_in_catalog(spec, state.alive):
            text = "The state of some arms is unknown: time per step broke the tie, or else the better mean."
        found.append(Caveat("tie_cost", text))
    if state.kind == WINNER and state.recommended is not None:
        others = [pair_rows(state, state.recommended, arm) for arm in state.chosen if arm != state.recommended]
        if any(equivalent(row, state.min_effect, spec.confirmation.alpha) for row in others):
            text = f"The difference is real but small: less than {short(state.min_effect)}, what matters in practice."
            found.append(Caveat("small_difference", text))
    return found


def _again(_spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], state: Contest) -> Found:
    """Each set of finalists is tested at the full alpha: to extend the search until one wins errs more often."""
    earlier = {run.spec.seed for run in runs if run.spec.phase is Phase.CONFIRM} - set(state.samples.seeds)
    if not earlier:
        return []
    text = "The search was extended after a verdict: this is a later confirmation, and each has the full error rate."
    return [Caveat("confirmed_again", text)]


def _fairness(spec: StudySpec, _t: Sequence[TrialRecord], _r: Sequence[RunRecord], _s: Contest) -> Found:
    found = []
    camps = Counter(arm.family.camp for arm in spec.arms)
    if len(set(camps.values())) > 1:
        sizes = ", ".join(f"{camp_name(camp)} {count}" for camp, count in camps.items())
        text = f"Camps have different numbers of arms ({sizes}): the larger had more trials, and more luck."
        found.append(Caveat("unequal_camps", text))
    return found


def _search_luck(trials: Sequence[TrialRecord], state: Contest, family: FamilyVerdict) -> Found:
    """What the claim about families rests on."""
    if family.kind == NOT_ASSESSED:
        text = (
            "One search only: other finalists may come out of another. This is about these settings, not these"
            f" families: {family.reason}."
        )
        return [Caveat("one_search_only", text)]
    if any(trial.source is Source.RECORDED and trial.arm in state.chosen for trial in trials):
        text = (
            "How the trials were proposed is not recorded: the verdict about families takes them as independent of each"
            " other's results. If a sampler learned from them, it does not hold."
        )
        return [Caveat("trials_assumed_independent", text)]
    return []


def _explored(runs: Sequence[RunRecord], arm: str) -> list[RunRecord]:
    return [r for r in runs if r.spec.arm == arm and r.spec.phase is Phase.EXPLORE and r.outcome is not None]


def _count(state: Contest, arm: str) -> int:
    return int(state.samples.ended[arm].sum())


def _fewest(state: Contest) -> int:
    return min((_count(state, arm) for arm in state.alive), default=0)
