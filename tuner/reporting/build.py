"""The recommendation as the user holds it, and as a real optimizer with its schedule (torch is imported then)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from tuner.analysis.evidence import Evidence
from tuner.analysis.verdict import Verdict
from tuner.errors import InputError
from tuner.recipe import told
from tuner.records import Setting
from tuner.reporting.document import markdown
from tuner.schedules import Schedule

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from tuner.training.adapters.torch_schedule import ScheduleLR


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

    def build(self, model: nn.Module, total_steps: int) -> tuple[Optimizer, ScheduleLR]:
        """Return a torch optimizer for the model, and its schedule timed to ``total_steps``.

        After every ``optimizer.step()`` call ``schedule.step()``. Beyond the last step the last value stays. Param
        groups, their multipliers, freezing and the batch's scaling of the learning rate are in the optimizer; clipping,
        accumulation, averaged weights and precision are your loop's: see ``setting.recipe``. A Schedule-Free optimizer
        has ``train()`` and ``eval()`` to be called as the model's are; with ``plateau``, call
        ``schedule.measured(value)`` (smaller is better) after each evaluation. Call ``optimizer.step()`` without a
        closure: decay that is added to a family comes before it.

        Raises:
            InputError: ``total_steps`` is no positive whole number.
            WorkloadError: a pattern of the recipe matches no parameter of the model.
        """
        return build(self.setting, model, total_steps)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        return f"Recommendation({self.evidence.study!r}: {self.sentence} Use {told(self.setting)})"


def build(setting: Setting, model: nn.Module, total_steps: int) -> tuple[Optimizer, ScheduleLR]:
    """As :meth:`Recommendation.build`, for any setting."""
    from tuner.training import optimizers
    from tuner.training.adapters.torch_schedule import ScheduleLR

    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise InputError(f"total_steps is {total_steps!r}; expected how many optimizer steps you train, 1 or more.")
    (optimizer,) = optimizers.build(setting, model, total_steps).parts.values()
    return optimizer, ScheduleLR(optimizer, Schedule.of(setting.schedule), total_steps)
