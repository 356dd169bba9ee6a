"""Run the notebook's code from its first cell to its last; with FEDN_URL it ends on that network."""

import json
import os
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).with_name("fit.ipynb")


def code():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


if __name__ == "__main__":
    environ = os.environ | {"MPLBACKEND": "agg"}  # nobody looks at the plot, and that is no reason to warn
    os.execve(sys.executable, [sys.executable, "-W", "ignore:FigureCanvasAgg", "-c", code()], environ)
