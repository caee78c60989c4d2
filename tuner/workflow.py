"""The flow of the product on one screen: run or resume a study, recommend from it, extend it.

What runs where is chosen in :mod:`tuner.bootstrap`; here nothing knows Ray, SQL, MLflow or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from tuner.analysis.evidence import Evidence, Nothing
from tuner.analysis.explored import explored, scored
from tuner.analysis.findings import findings
from tuner.analysis.recommendation import recommend, recommend_or_say
from tuner.documents import Section
from tuner.errors import InputError, NoEvidence, StudyStopped
from tuner.families import FAMILIES, is_family
from tuner.fidelity import FULL
from tuner.ports import Executor, Tracker
from tuner.recorded.export import rows_of
from tuner.recorded.study import RecordedStudy
from tuner.recorded.writing import write_curves, write_runs
from tuner.records import RunRecord, TrialRecord
from tuner.reporting.dossier import Dossier
from tuner.reporting.files import write_all
from tuner.spec import StudySpec, read_spec
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.study import Study

MIRROR_PATIENCE_SECONDS = 60.0
"""How long a finished study waits at most while MLflow catches up; one that does not answer is not waited for."""
MIRROR_GOODBYE_SECONDS = 5.0
"""How long a stopped study waits for it."""


def run(study: Study, executor: Executor, tracker: Tracker, ledger: Ledger, lease: Lease, folder: Path) -> bool:
    """Search, confirm, recommend; from wherever the ledger says that the study is. True if MLflow shows it all.

    Raises:
        StudyStopped: one run after the other failed in the user's code.
    """
    tracker.start()
    patience = 0.0
    leaving = Thread(target=executor.close, name="tuner-leaving")  # takes a second, beside what is left to do
    try:
        executor.run(study)
        leaving.start()
        if study.failed_in_a_row:
            ledger.set_state(lease, "stopped", study.failed_in_a_row.splitlines()[0])
            raise StudyStopped(study.failed_in_a_row)
        if study.finished:
            conclude(ledger, study.spec, folder)
            ledger.set_state(lease, "finished")
        patience = MIRROR_PATIENCE_SECONDS if study.finished else MIRROR_GOODBYE_SECONDS
    finally:
        shown = tracker.finish(patience)
        if leaving.ident is None:
            leaving.start()
        leaving.join()
    return shown


def conclude(ledger: Ledger, spec: StudySpec, folder: Path) -> Evidence | None:
    """Write the recommendation and the pictures beside the study; None if there is nothing to say."""
    row = ledger.study(spec.name)
    trials, runs = ledger.trials(row), ledger.runs(row)
    try:
        found = dossier(spec, trials, runs)
    except NoEvidence:
        return None
    write_all(found, folder)
    return found.evidence


def dossier(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> Dossier:
    """Return the answer with the records behind it and what the search taught: what a report shows.

    Raises:
        NoEvidence: no run has finished.
    """
    from tuner.search.importance import importance

    evidence, points = recommend(spec, trials, runs), explored(spec, trials, runs)
    important = [importance(arm, scored(points[arm.arm], spec.sign)) for arm in spec.arms]
    return Dossier(evidence, spec, trials, runs, findings(spec, trials, runs, evidence.min_effect, important))


def stored_dossier(ledger: Ledger, name: str) -> Dossier:
    """Return the dossier of a study as the ledger stands.

    Raises:
        StudyNotFound: there is no study of that name.
        NoEvidence: no run has finished.
    """
    row = ledger.study(name)
    return dossier(stored_spec(row.spec, name), ledger.trials(row), ledger.runs(row))


def report_recorded(studies: Sequence[RecordedStudy], folder: Path) -> list[Path]:
    """Write the report of each recorded study that has an answer, of several into a folder each; return the pages."""
    pages = []
    for study in studies:
        try:
            found = dossier(study.spec, study.trials, study.runs)
        except NoEvidence:
            continue
        pages.append(write_all(found, folder / study.spec.name if len(studies) > 1 else folder)[0])
    return pages


def answer(ledger: Ledger, name: str) -> Evidence:
    """Return the recommendation as the ledger stands, also in the middle of a study.

    Raises:
        StudyNotFound: there is no study of that name.
        NoEvidence: no run has finished.
    """
    row = ledger.study(name)
    return recommend(stored_spec(row.spec, name), ledger.trials(row), ledger.runs(row))


def analyse(studies: Iterable[RecordedStudy]) -> list[Evidence | Nothing]:
    """Return the answer of each recorded study."""
    return [recommend_or_say(study.spec, study.trials, study.runs) for study in studies]


def export_runs(ledger: Ledger, name: str, runs: Path, curves: Path | None) -> int:
    """Write a study's runs, and their curves, as tables; return how many runs.

    Raises:
        StudyNotFound: there is no study of that name.
        NoEvidence: no run has ended.
        InputError: a file cannot be written.
    """
    row = ledger.study(name)
    spec, found = stored_spec(row.spec, name), ledger.runs(row)
    rows, points = rows_of(spec, ledger.trials(row), found)
    if not rows:
        raise NoEvidence(f"study {name!r} has no run that has ended; of {len(found)} runs, nothing can be written.")
    write_runs(runs, rows)
    if curves is not None:
        write_curves(curves, points)
    return len(rows)


def stored_spec(spec: Mapping[str, Any], name: str) -> StudySpec:
    """Read back what the ledger keeps of a study file; one from before the ladder trained every run in full."""
    return read_spec(Section({"fidelity": FULL, **spec}, f"study {name!r} in the database"))


def extend(
    spec: StudySpec, *, trials: int = 0, seeds: int = 0, arm: str | None = None, hours: float = 0.0
) -> StudySpec:
    """Return the spec with ``trials`` or ``hours`` more, ``seeds`` in all for each finalist, or another arm.

    The settings that the first budget opened stay the ones that are searched.

    Raises:
        InputError: nothing is asked for, or the arm is unknown or already there.
    """
    if not (trials or seeds or arm or hours):
        raise InputError("nothing to extend by; expected --trials N, --seeds N, --arm FAMILY or --hours H.")
    if trials and spec.budget.trials_per_arm is None:
        raise InputError(
            "this study is limited by hours, not by trials; expected --hours H, --seeds N or --arm FAMILY."
        )
    if (trials or arm) and spec.budget.hours is not None and not hours:
        raise InputError(
            f"the search is limited to {spec.budget.hours:g} hours, which may be used up; expected --hours H beside "
            "--trials or --arm, for how much longer it may take."
        )
    if hours:
        if spec.budget.hours is None:
            raise InputError("--hours is for a study with a budget of hours; this one has none: leave it out.")
        spec = replace(spec, budget=replace(spec.budget, hours=spec.budget.hours + hours))
    if trials:
        assert spec.budget.trials_per_arm is not None
        spec = replace(spec, budget=replace(spec.budget, trials_per_arm=spec.budget.trials_per_arm + trials))
    if seeds:
        plan = spec.confirmation
        now = plan.seeds_for(len(spec.arms))
        if seeds <= now:
            raise InputError(f"--seeds is {seeds}; expected more than {now}, which each finalist has already.")
        cap = None if plan.max_runs is None else max(plan.max_runs, seeds * len(spec.arms))
        totals = (*plan.extensions, seeds) if seeds > plan.total else plan.extensions
        spec = replace(spec, confirmation=replace(plan, extensions=totals, max_runs=cap))
    return _with_arm(spec, arm) if arm else spec


def _with_arm(spec: StudySpec, arm: str) -> StudySpec:
    """One more arm: of the study's own space, or a family with its published ranges."""
    names = [space.arm for space in spec.arms]
    if arm in names:
        raise InputError(f"arm {arm!r} is in the study already; expected one that is not: it has {', '.join(names)}.")
    own = spec.space.document["arms"]
    if arm not in own and not is_family(arm):
        known = sorted({*own, *FAMILIES} - set(names))
        raise InputError(f"there is no arm {arm!r}; expected one of {', '.join(known)}, or lookahead-FAMILY.")
    space = {**spec.space.document, "arms": {**own, arm: own.get(arm)}}
    return stored_spec({**spec.to_json(), "space": space, "arms": [*names, arm]}, spec.name)
