"""Files of measurements: what was measured, where, when, with which versions, at which commit.

keep_result("check-speed", measured, "numpy", "pyarrow")
# results/2026-01-31-some-cpu-2-cores-check-speed.json
"""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path
from statistics import median

from ettin import files
from ettin.files import Json

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def keep_result(name: str, measured: Json, *packages: str, folder: Path = RESULTS) -> Path:
    """Write what was measured, with all that it depends on.

    Args:
        name: of the benchmark.
        measured: the figures.
        packages: whose versions matter, beside ours.
        folder: where results are kept.

    Returns:
        The file.
    """
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = hardware()
    result = {
        "date": today,
        "hardware": machine,
        "commit": commit(ROOT),
        "versions": files.versions(*packages),
        "load_average": os.getloadavg()[0],
        **measured,
    }
    path = folder / f"{today}-{machine['slug']}-{name}.json"
    files.write_json(path, result)
    return path


def spread(values: list[float]) -> Json:
    """Median, smallest and largest of at least one value."""
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def hardware() -> Json:
    """The machine: processor, cores, and a slug for file names."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.MULTILINE)
        model = found[1] if found else model
    cores = os.cpu_count() or 1
    plain = re.sub(r"\((r|tm|c)\)", "", model.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", f"{plain} {cores} cores").strip("-")
    return {"cpu": model, "cores": cores, "system": platform.platform(), "slug": slug}


def commit(root: Path) -> str:
    """The git commit of the working tree; what was changed since is marked by a fingerprint.

    Only what is measured counts: `src` and the benchmark's own programs.
    """
    measured = ["src", ":(glob)benchmarks/**/*.py"]
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if not _git(root, "status", "--porcelain", "--untracked-files=all", "--", *measured):
        return head
    paths = sorted([*(root / "src").rglob("*.py"), *(root / "benchmarks").rglob("*.py")])
    content = {str(path.relative_to(root)): files.fingerprint_file(path) for path in paths}
    return f"{head}+{files.fingerprint(content)[:8]}"


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
