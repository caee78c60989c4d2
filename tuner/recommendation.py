"""The recommendation as the user holds it, and as a real optimizer with its schedule (torch is imported then)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from tuner.analysis.evidence import Evidence
from tuner.analysis.verdict.decision import Verdict
from tuner.catalog.schedules import Schedule
from tuner.catalog.training_options import told
from tuner.core.errors import InputError
from tuner.core.records import Setting
from tuner.reporting.markdown import markdown

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from tuner.analysis.analysis import Analysis
    from tuner.exports import Export
    from tuner.training.adapters.torch_schedule import ScheduleLR


@final
class Recommendation:
    """The answer of a study: verdict, settings, evidence; ``build`` makes the objects to train with."""

    def __init__(self, evidence: Evidence, analysis: Analysis | None = None) -> None:
        self.evidence = evidence
        self._analysis = analysis

    @staticmethod
    def of(analysis: Analysis) -> Recommendation:
        """Return the recommendation of a study.

        Raises:
            NoEvidence: no run has finished yet.
        """
        return Recommendation(analysis.evidence, analysis)

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

    def html(self) -> str:
        """Return the report as one HTML page that needs nothing else, as the study's records stand now.

        Raises:
            InputError: the recommendation does not know its study.
        """
        from tuner.reporting.report.page import html

        return html(self._known())

    def save(self, folder: str | Path) -> list[Path]:
        """Write the report, the Markdown, the JSON and the pictures into a folder; return their paths.

        Raises:
            InputError: the recommendation does not know its study.
        """
        from tuner.reporting.files import write_all

        return write_all(self._known(), Path(folder))

    def _known(self) -> Analysis:
        if self._analysis is None:
            raise InputError(
                "this recommendation was made from evidence alone; expected one of a study's handle: a report shows "
                "the study's records too. Take tuner.open_study(NAME).recommend()."
            )
        return self._analysis

    def build(self, model: nn.Module, total_steps: int) -> tuple[Optimizer, ScheduleLR]:
        """Return a torch optimizer for the model, and its schedule timed to ``total_steps``.

        After every ``optimizer.step()`` call ``schedule.step()``. Beyond the last step the last value stays. Param
        groups, their multipliers, freezing and the batch's scaling of the learning rate are in the optimizer; clipping,
        accumulation, averaged weights and precision are your loop's: see ``setting.training``. A Schedule-Free
        optimizer has ``train()`` and ``eval()`` to be called as the model's are; with ``plateau``, call
        ``schedule.measured(value)`` (smaller is better) after each evaluation. Call ``optimizer.step()`` without a
        closure: decay that is added to a family comes before it.

        Raises:
            InputError: ``total_steps`` is no positive whole number.
            WorkloadError: a pattern of the training options matches no parameter of the model.
        """
        return build(self.setting, model, total_steps)

    def export(
        self, to: str, *, arm: str | None = None, total_steps: int | None = None, epochs: float | None = None
    ) -> Export:
        """Write the recommended setting, or the finalist of ``arm``, in the words of another tool.

        ``to`` is ``torch``, ``lightning``, ``huggingface``, ``timm`` or ``yaml``. It is timed to ``total_steps`` or to
        ``epochs``, else to the study's horizon. ``print(rec.export("torch").text)`` shows it.

        Raises:
            InputError: there is no such target or arm, or the target cannot express the setting at all.
        """
        from tuner.exports.finalist import export_finalist

        return export_finalist(self.evidence, to, arm=arm, total_steps=total_steps, epochs=epochs)

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
