"""What ``tuner check`` shows before a study spends anything: its space, its plan, its cost. Nothing is stored."""

from tuner.reporting.preview.confirmation_plan import confirmation
from tuner.reporting.preview.cost_table import cost, timed
from tuner.reporting.preview.group_tables import groups
from tuner.reporting.preview.question import pages
from tuner.reporting.preview.search_plan import plan_table, rung_table, search, widening
from tuner.reporting.preview.space_table import space_table

__all__ = [
    "confirmation",
    "cost",
    "groups",
    "pages",
    "plan_table",
    "rung_table",
    "search",
    "space_table",
    "timed",
    "widening",
]
