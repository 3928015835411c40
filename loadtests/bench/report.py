from pathlib import Path
from .results import Run
def write_report(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run.write(folder / "results.json")
