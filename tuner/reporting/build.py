"""The recommendation as the user holds it, and as a real optimizer with its schedule (torch is imported then)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from tuner.analysis.evidence import Evidence
from tuner.analysis.verdict import Verdict
from tuner.errors import InputError
from tuner.records import Setting
from tuner.reporting.document import markdown
from tuner.schedules import Schedule

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR


@final
class Recommendation:
    """The answer of a study: verdict, settings, evidence; ``build`` makes the objects to train with."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @property
    def verdict(self) -> Verdict:
        return self.evidence.verdict

    @property
    def setting(self) -> Setting:
        return self.evidence.setting

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return self.evidence.verdict.sentence

    def to_json(self) -> dict[str, Any]:
        return self.evidence.to_json()

    def markdown(self) -> str:
        """Return the recommendation as a page, without its pictures."""
        return markdown(self.evidence, pictures=False)

    def build(self, model: nn.Module, total_steps: int) -> tuple[Optimizer, LambdaLR]:
        """Return a torch optimizer for the model, and its schedule timed to ``total_steps``.

        After every ``optimizer.step()`` call ``schedule.step()``. Beyond the last step the last value stays.

        Raises:
            InputError: ``total_steps`` is no positive whole number, or the setting needs more than one optimizer.
        """
        return build(self.setting, model, total_steps)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        return f"Recommendation({self.evidence.study!r}: {self.sentence} Use {self.setting})"


def build(setting: Setting, model: nn.Module, total_steps: int) -> tuple[Optimizer, LambdaLR]:
    """As :meth:`Recommendation.build`, for any setting."""
    from torch.optim.lr_scheduler import LambdaLR

    from tuner.training import optimizers

    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise InputError(f"total_steps is {total_steps!r}; expected how many optimizer steps you train, 1 or more.")
    parts = optimizers.build(setting, model).parts
    if len(parts) != 1:
        raise InputError(
            f"{setting.family} needs {len(parts)} optimizers for this model ({', '.join(parts)}); expected one. "
            "Use tuner.training.optimizers.build(setting, model), and its apply(multipliers) with the schedule."
        )
    (optimizer,) = parts.values()
    schedule = Schedule.of(setting.schedule)

    def factor(step: int) -> float:
        return schedule.multipliers(min(step, total_steps - 1), total_steps).lr

    return optimizer, LambdaLR(optimizer, factor)
