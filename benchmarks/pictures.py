"""Write the pictures of the README from a finished study: the closing card as SVG, the learning curves, values by arm.

cd demo && python ../benchmarks/pictures.py digits ../docs/images
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from pathlib import Path

from rich.console import Console

from tuner import bootstrap, workflow
from tuner.core.settings import Settings
from tuner.reporting import card


def main(name: str, target: Path) -> None:
    settings = Settings.from_environment()
    ledger = bootstrap.open_ledger(settings)
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
    console.print(card.render(workflow.analysis_of(ledger, name).evidence), highlight=False)
    ledger.close()
    drawing = console.export_svg(title=f"tuner run {name}.yaml")
    drawing = re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)  # no font from the network
    (target / "card.svg").write_text(re.sub(r"<!--.*?-->", "", drawing, flags=re.DOTALL))
    for picture in ("learning_curves.png", "values_by_arm.png"):
        shutil.copyfile(settings.folder / name / picture, target / picture)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
