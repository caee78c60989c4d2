"""One arm's trials in Optuna's tables, and the same in memory, from which samplers propose.

What is proposed, and what Optuna is told of a run, is decided in :mod:`tuner.search.arm`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState

from tuner.core.errors import StorageError
from tuner.core.settings import hide_secrets

INDEX = "tuner:index"
SOURCE = "tuner:source"
CONSTRAINT = "diverged"

optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what Optuna and its driver raise when the database fails into our error."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        cause = hide_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
        raise StorageError(f"Optuna's tables cannot be used: {cause}. Check that the database runs.") from error


class OptunaArm:
    """The Optuna study of an arm: in SQL, where people see it, and in memory, its shadow.

    Trials have the index of their proposal in the shadow, and in SQL the user attribute ``INDEX``. ``axes`` are the
    distributions of now, ``sign`` is +1 where more is better and -1 where less is.

    Raises:
        StorageError: from every method that writes, if the database fails.
    """

    def __init__(self, study: optuna.Study, axes: Mapping[str, BaseDistribution], sign: int) -> None:
        self.study = study
        self._axes = dict(axes)
        self._sign = sign
        self.shadow = optuna.create_study(
            direction="maximize" if sign > 0 else "minimize",
            storage=optuna.storages.InMemoryStorage(),
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
        )
        self.trials: dict[int, FrozenTrial] = {}
        """Index of the proposal -> its trial in SQL, as it was added."""
        for trial in study.get_trials(deepcopy=False):
            self.trials.setdefault(int(trial.user_attrs[INDEX]), trial)  # a fenced-off driver may have added it again
        for index in sorted(self.trials):
            self.shadow.add_trial(self._on_these_axes(self.trials[index]))

    def _on_these_axes(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with the ranges of now: samplers model together only what all trials have on the same axis."""
        if set(trial.params) != set(self._axes):
            return trial
        moved = copy.copy(trial)
        moved.distributions = dict(self._axes)
        return moved

    @database_errors()
    def add(self, index: int, trial: FrozenTrial) -> int:
        """Add a proposal, to SQL in one transaction and then to the shadow; return its number in SQL."""
        self.study.add_trial(trial)
        added = self.study.get_trials(deepcopy=False)
        self.shadow.add_trial(trial)
        self.trials[index] = next(t for t in reversed(added) if t.user_attrs.get(INDEX) == index)
        return self.trials[index].number

    @database_errors()
    def is_finished(self, index: int) -> bool:
        """Whether Optuna has been told how a trial ended; it is asked in SQL."""
        return self.study.get_trials(deepcopy=False)[self.trials[index].number].state.is_finished()

    @database_errors()
    def fail(self, index: int) -> None:
        """End a trial as failed: samplers ignore it."""
        for study, number in self._both(index):
            study.tell(number, state=TrialState.FAIL)

    @database_errors()
    def complete(self, index: int, value: float, violation: float) -> None:
        """End a trial with a value; a ``violation`` above 0 says that the constraint ``CONSTRAINT`` does not hold."""
        for study, number in self._both(index):
            trial = study.get_trials(deepcopy=False)[number]
            if CONSTRAINT not in trial.constraints:
                optuna.trial.Trial(study, trial._trial_id).set_constraint(CONSTRAINT, violation)
            study.tell(number, value)

    @database_errors()
    def prune(self, index: int, rung: int, value: float | None) -> None:
        """End a trial as pruned, with the value that it had on a rung."""
        for study, number in self._both(index):
            trial = study.get_trials(deepcopy=False)[number]
            if value is not None and rung not in trial.intermediate_values:
                optuna.trial.Trial(study, trial._trial_id).report(value, rung)
            study.tell(number, state=TrialState.PRUNED)

    def _both(self, index: int) -> tuple[tuple[optuna.Study, int], ...]:
        """SQL's study, which is written first, and the shadow, each with the trial's number there."""
        return (self.study, self.trials[index].number), (self.shadow, index)

    def worst(self) -> float | None:
        """Return the worst value of the trials that are complete, or None while there is none."""
        complete = self.shadow.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return min((trial.values[0] for trial in complete), key=lambda value: value * self._sign, default=None)


def open_study(storage: optuna.storages.BaseStorage, name: str, sign: int) -> optuna.Study:
    """Open an Optuna study, made if it is not there.

    Raises:
        StorageError: the database fails.
    """
    with database_errors():
        return optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize" if sign > 0 else "minimize",
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
        )


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Open Optuna's tables, made if they are not there.

    Raises:
        StorageError: they cannot be opened; the message hides passwords.
    """
    import sqlalchemy

    sqlite = url.startswith("sqlite")
    kwargs: Mapping[str, object] = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
    escaped = url.replace("{", "{{").replace("}", "}}")  # Optuna fills a template with the URL
    try:
        return optuna.storages.RDBStorage(escaped, engine_kwargs=dict(kwargs))
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, ImportError) as error:
        raise StorageError(hide_secrets(f"{url}: Optuna's tables cannot be opened: {error}")) from None
