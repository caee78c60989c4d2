"""What a study, or runs that others made, has to say, and where it is written: dossiers, reports, tables of runs.

Nothing is trained here; how a study runs is in :mod:`tuner.workflow`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tuner.analysis.evidence import Evidence, Nothing
from tuner.analysis.findings import findings
from tuner.analysis.recommend import recommend, recommend_or_say
from tuner.analysis.searched.points import explored, scored
from tuner.config.fidelity import Fidelity
from tuner.config.spec import StudySpec, stored_spec
from tuner.core.errors import NoEvidence
from tuner.core.records import RunRecord, TrialRecord
from tuner.recorded.csv_writing import write_curves, write_runs
from tuner.recorded.from_ledger import rows_of
from tuner.recorded.to_records import RecordedStudy
from tuner.reporting.dossier import Dossier
from tuner.reporting.files import write_all
from tuner.search.shares import Importance
from tuner.storage.ledger import Ledger

LONGEST = 60
"""A folder's name has so many characters at most."""


def dossier(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> Dossier:
    """Return the answer with the records behind it and what the search taught: what a report shows.

    Raises:
        NoEvidence: no run has finished.
    """
    evidence = recommend(spec, trials, runs)
    important = _important(spec, trials, runs)
    return Dossier(evidence, spec, trials, runs, findings(spec, trials, runs, evidence.min_effect, important))


def _important(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> list[Importance]:
    """How much each dimension mattered, by arm: at the full horizon, or on the lowest rung where few got so far."""
    from tuner.search.importance import importance

    full, lowest = explored(spec, trials, runs), spec.rungs[0]
    short = explored(replace(spec, horizon=lowest, fidelity=Fidelity()), trials, runs)
    found = []
    for arm in spec.arms:
        here = importance(arm, scored(full[arm.arm], spec.sign))
        if not here.shares and lowest != spec.horizon:
            below = importance(arm, scored(short[arm.arm], spec.sign))
            here = replace(below, horizon=str(lowest)) if below.shares else here
        found.append(here)
    return found


def stored_dossier(ledger: Ledger, name: str) -> Dossier:
    """Return the dossier of a study as the ledger stands.

    Raises:
        StudyNotFound: there is no study of that name.
        NoEvidence: no run has finished.
    """
    row = ledger.study(name)
    return dossier(stored_spec(row.spec, name), ledger.trials(row), ledger.runs(row))


def analyse(studies: Iterable[RecordedStudy]) -> list[Evidence | Nothing]:
    """Return the answer of each recorded study."""
    return [recommend_or_say(study.spec, study.trials, study.runs) for study in studies]


def report_recorded(studies: Sequence[RecordedStudy], folder: Path) -> list[Path]:
    """Write the report of each recorded study that has an answer, of several into a folder each; return the pages."""
    pages = []
    for study, name in zip(studies, folder_names([study.spec.name for study in studies]), strict=True):
        try:
            found = dossier(study.spec, study.trials, study.runs)
        except NoEvidence:
            continue
        pages.append(write_all(found, folder / name if len(studies) > 1 else folder)[0])
    return pages


def folder_names(studies: Sequence[str]) -> list[str]:
    """Return a folder's name for each study, whatever the study is called: none leads elsewhere, no two are the same.

    >>> folder_names(["digits", "a/b", "a b", "../x", "A-B", ""])
    ['digits', 'a-b', 'a-b-2', 'x', 'A-B-3', 'study']
    """
    found: list[str] = []
    for study in studies:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", study).strip(".-")[:LONGEST].rstrip(".-") or "study"
        taken, name, count = {other.lower() for other in found}, plain, 1
        while name.lower() in taken:
            count += 1
            name = f"{plain}-{count}"
        found.append(name)
    return found


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
