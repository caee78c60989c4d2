"""A study's entry in the ledger: made, found again, changed. What it asks has been checked before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tuner.config.changes import with_workload_training
from tuner.config.spec import StudySpec
from tuner.config.stored import says_workload_training, stored_spec
from tuner.core.errors import StudyExists
from tuner.resolve.comparison import placed_as, question, stored_alike
from tuner.resolve.head_start import with_earlier
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.storage.reading import StudyRow


def create(spec: StudySpec, ledger: Ledger) -> StudySpec:
    """Add the study to the ledger, or find it there; return the stored question, with its order of dimensions.

    Before its first trial a study may ask something else. How runs are placed may change at any time.

    Raises:
        StudyExists: the name is taken by a study that asks something else.
        StudyNotFound: the ledger lacks an earlier study that this one starts from.
    """
    row = next((row for row in ledger.studies() if row.name == spec.name), None)
    if row is None:
        begun = with_earlier(spec, ledger)
        ledger.create(spec.name, begun.to_json())
        return begun
    if not ledger.trials(row) and not ledger.runs(row, measured=False):
        return _replaced(ledger, row, stored_spec(row.spec, row.name), with_earlier(spec, ledger))
    stored = restored(row)
    if question(stored) != question(spec):
        raise StudyExists(
            f"study {spec.name!r} is in this database with other settings; expected the same ones, or a new name. Go "
            f"on with 'tuner resume {spec.name}' or 'tuner extend {spec.name}', or change 'study'."
        )
    return _replaced(ledger, row, stored, placed_as(stored, spec))


def restored(row: StudyRow) -> StudySpec:
    """Return what the ledger keeps of a study.

    One from before there were training options gets those of its workload, with which it had trained.

    Raises:
        WorkloadError: it is from then, and its workload cannot be imported.
    """
    spec = stored_spec(row.spec, row.name)
    if says_workload_training(row.spec):
        return spec
    from tuner.training.workloads.load import describe, load

    return with_workload_training(spec, describe(load(spec.workload)).training)


def update(spec: StudySpec, ledger: Ledger) -> None:
    """Change what a study asks for, and note it in the study's journal.

    Raises:
        StudyBusy: a living driver holds the lease.
    """
    asked = spec.to_json()
    with _leased(ledger, ledger.study(spec.name)) as lease:
        ledger.set_spec(lease, asked, "extended", {"budget": asked["budget"], "arms": asked["arms"]})


def _replaced(ledger: Ledger, row: StudyRow, stored: StudySpec, spec: StudySpec) -> StudySpec:
    """Keep another spec in the place of the stored one, unless it is the same; return the one that is kept."""
    if stored_alike(stored, spec):
        return stored
    with _leased(ledger, row) as lease:
        ledger.set_spec(lease, spec.to_json())
    return spec


@contextmanager
def _leased(ledger: Ledger, row: StudyRow) -> Iterator[Lease]:
    """Hold a study's lease for a moment, and give it back whatever happens."""
    lease = ledger.acquire(row)
    try:
        yield lease
    finally:
        ledger.release(lease)
