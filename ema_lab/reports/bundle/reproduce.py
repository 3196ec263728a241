"""What trains a bundle's runs again: a script, and the versions that it installs."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ema_lab.tables.text import one_line

NOT_PINNED = ("python", "ema-lab")
SCRIPT = """\
#!/bin/sh
# Trains every run of this report again, below ./again, and compares its tables with those in report/.
# {machine}
set -eu
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install wheels/ema_lab-{version}-py3-none-any.whl -r requirements.txt
{runs}
.venv/bin/ema-lab report reports/{name}.yaml --store again --out again/report
.venv/bin/ema-lab report reports/{name}.yaml --store again --out report --check --tables
"""


def requirements(facts: Mapping[str, Any]) -> str:
    """Return the versions that runs were trained with, the last where they differ.

    A local version (`+cpu`) is left out: an index has none.
    """
    pins = {name: number for found in facts["versions"] for name, number in found.items()}
    lines = (f"{name}=={pins[name].partition('+')[0]}\n" for name in sorted(pins) if name not in NOT_PINNED)
    return "".join(lines)


def reproduce_script(facts: Mapping[str, Any], ablations: Sequence[str]) -> str:
    """Return the script.

    Args:
        facts: What `bundle.json` holds.
        ablations: The files of the ablations, from the bundle's folder.
    """
    threads, kinds = facts["num_threads"], {str(device).partition(":")[0] for device in facts["device"]}
    options = f" --device {min(kinds)}" if kinds in ({"cpu"}, {"cuda"}) else ""
    if kinds == {"cpu"} and len(threads) == 1 and isinstance(threads[0], int):
        options += f" --threads {threads[0]}"  # a GPU's results do not depend on them
    runs = [f".venv/bin/ema-lab run {shlex.quote(path)} --store again{options}" for path in ablations]
    return SCRIPT.format(
        machine=_machine(facts),
        version=facts["ema_lab"],
        runs="\n".join(runs),
        name=facts["report"],
    )


def _machine(facts: Mapping[str, Any]) -> str:
    """Return what the runs were trained on, in a line: results are bit-equal on the same alone."""
    pythons = sorted({found["python"] for found in facts["versions"] if "python" in found})
    said = {
        "Python": pythons,
        "device": facts["device"],
        "instruction set": facts["instruction_set"],
        "threads of torch": facts["num_threads"],
        "commit": [commit[:12] for commit in facts["commit"]],
    }
    words = [f"{what}: {', '.join(map(str, values))}" for what, values in said.items() if values]
    return one_line(f"They were trained on: {'; '.join(words) or 'nothing is recorded'}")
