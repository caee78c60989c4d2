"""The flow of the product on one screen: run or resume a study, recommend from it, extend it.

What runs where is chosen in :mod:`tuner.bootstrap`; here nothing knows Ray, SQL, MLflow or torch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread

from tuner.analysis.analysis import Analysis
from tuner.config.changes import with_arm
from tuner.config.spec import StudySpec
from tuner.core.errors import InputError, NoEvidence, StudyStopped
from tuner.core.ports import Executor, Tracker
from tuner.recorded.csv_writing import write_curves, write_runs
from tuner.recorded.from_ledger import rows_of
from tuner.reporting.files import write_all
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.study import Study
from tuner.study_records import StudyRecords

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
            conclude(study.snapshot().records, folder)
            ledger.set_state(lease, "finished")
        patience = MIRROR_PATIENCE_SECONDS if study.finished else MIRROR_GOODBYE_SECONDS
    finally:
        shown = tracker.finish(patience)
        if leaving.ident is None:
            leaving.start()
        leaving.join()
    return shown


def conclude(records: StudyRecords, folder: Path) -> Analysis | None:
    """Write the recommendation and the pictures beside the study; None if there is nothing to say."""
    analysis = Analysis(records)
    try:
        write_all(analysis, folder)
    except NoEvidence:
        return None
    return analysis


def analysis_of(ledger: Ledger, name: str) -> Analysis:
    """Return what the ledger says of a study, also in the middle of it.

    Raises:
        StudyNotFound: there is no study of that name.
    """
    return Analysis(ledger.records(name))


def export_runs(ledger: Ledger, name: str, runs: Path, curves: Path | None) -> int:
    """Write a study's runs, and their curves, as tables; return how many runs.

    Raises:
        StudyNotFound: there is no study of that name.
        NoEvidence: no run has ended.
        InputError: a file cannot be written.
    """
    records = ledger.records(name)
    rows, points = rows_of(records)
    if not rows:
        count = len(records.runs)
        raise NoEvidence(f"study {name!r} has no run that has ended; of {count} runs, nothing can be written.")
    write_runs(runs, rows)
    if curves is not None:
        write_curves(curves, points)
    return len(rows)


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
    return with_arm(spec, arm) if arm else spec
