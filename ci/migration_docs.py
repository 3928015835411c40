"""Write what is made from the package: presets, the umbrella chart's values, MIGRATION.md's table.

python ci/migration_docs.py chart
"""

from __future__ import annotations

import sys
from pathlib import Path

from jupyterhub_junction.migrate.command import as_yaml, rendered
from jupyterhub_junction.migrate.options import table
from jupyterhub_junction.migrate.presets import PRESETS, preset

__all__ = ["made"]

MARKERS = ("<!-- options -->\n", "<!-- /options -->")
UMBRELLA = """\
# Zero to JupyterHub (z2jh) with Junction as its proxy.  Your values of z2jh go under `jupyterhub:`,
# your values of the chart junction under `junction:`, each as that chart has them.

junction:
  # Names that the hub's settings below refer to.
  fullnameOverride: junction
  jupyterhub:
    # Replicas join z2jh's proxy-public.
    enabled: true
  service:
    # Users come by proxy-public.
    enabled: false

# What is here is what the preset takeover sets; helm merges maps with yours.  Write extraEnv as a
# map, not as a list, which would replace these.
"""


def made(chart: Path) -> dict[Path, str]:
    """The files below ``chart/`` that are made, and what is to be in them."""
    files = {chart / "presets" / f"{name}.yaml": rendered(name, preset(name)) for name in PRESETS}
    values = preset("takeover")
    # there is nothing to take over, and no other preset
    del values["hub"]["extraFiles"], values["proxy"]["chp"]["extraCommandLineFlags"]
    umbrella = chart / "jupyterhub-junction" / "values.yaml"
    files[umbrella] = UMBRELLA + as_yaml({"jupyterhub": values})
    docs = chart / "MIGRATION.md"
    before, begin, rest = docs.read_text().partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not begin or not end:
        raise ValueError(f"{docs} needs {MARKERS[0].strip()} and {MARKERS[1]} after it")
    files[docs] = f"{before}{begin}{table()}\n{end}{after}"
    return files


def main(words: list[str]) -> int:
    """Do it."""
    for path, text in made(Path(words[0])).items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
