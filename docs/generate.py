"""Write the pages that come from the tables, and the picture of all schedules.

    python docs/generate.py

A test fails when a page is stale. Nothing that is timed stands in them, so they are the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

from generators import exports, optimizers, recipes, schedules

from tuner.reporting import schedule_plots

HERE = Path(__file__).parent


def main() -> None:
    (HERE / "exports.md").write_text(exports.markdown())
    (HERE / "optimizers.md").write_text(optimizers.markdown())
    (HERE / "recipes.md").write_text(recipes.markdown())
    (HERE / "schedules.md").write_text(schedules.markdown())
    schedule_plots.plot_all(HERE / "images" / "schedules.png")


if __name__ == "__main__":
    main()
