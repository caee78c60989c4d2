"""The learning-rate schedules: a frozen table of pure functions of the step; no torch, no optimizer.

Every schedule is a function of ``t/T`` whose parameters are dimensionless, so timing it to another
horizon needs no translation. ``multipliers(step, horizon)`` belong to the update that leads from
``step`` to ``step + 1`` (steps count from 0), as in ``torch.optim.lr_scheduler``. A setting's own
learning rate is the peak. Only ``plateau`` also depends on what was measured: ``Schedule.after``.
"""

from tuner.catalog.schedules.kinds import SCHEDULES
from tuner.catalog.schedules.row import Kind, Multipliers, Parameter, Values, check_parameter
from tuner.catalog.schedules.schedule import SIGNALS, Plateau, Schedule
from tuner.catalog.schedules.warmups import WARMUP, WARMUP_SHAPES, WARMUP_START

__all__ = [
    "SCHEDULES",
    "SIGNALS",
    "WARMUP",
    "WARMUP_SHAPES",
    "WARMUP_START",
    "Kind",
    "Multipliers",
    "Parameter",
    "Plateau",
    "Schedule",
    "Values",
    "check_parameter",
]
