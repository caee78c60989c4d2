"""Write the pages that come from the tables, and the picture of all schedules.

    python docs/generate.py

A test fails when a page is stale. Nothing that is timed stands in them, so they are the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

from tuner.reporting import export_reference, optimizer_reference, recipe_reference, schedule_plots, schedule_reference

HERE = Path(__file__).parent


def main() -> None:
    (HERE / "exports.md").write_text(export_reference.markdown())
    (HERE / "optimizers.md").write_text(optimizer_reference.markdown())
    (HERE / "recipes.md").write_text(recipe_reference.markdown())
    (HERE / "schedules.md").write_text(schedule_reference.markdown())
    schedule_plots.plot_all(HERE / "images" / "schedules.png")


if __name__ == "__main__":
    main()
