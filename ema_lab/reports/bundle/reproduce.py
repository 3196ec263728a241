"""What trains a bundle's runs again: a script, and the versions that it installs."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

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

    A local version (`+cpu`) is left out: an index has none. pip would obey an option or an address in a
    line: what is not a name and a version as PEP 503 and PEP 440 have them is named in a comment instead.
    """
    found = [versions for versions in facts["versions"] if isinstance(versions, Mapping)]
    pins = {name: number for versions in found for name, number in versions.items()}
    return "".join(_requirement(name, pins[name]) for name in sorted(pins) if name not in NOT_PINNED)


def _requirement(name: str, number: object) -> str:
    try:
        canonicalize_name(name, validate=True)
        if "\n" in name:  # which its pattern lets pass at the end
            raise InvalidName(name)
        return f"{name}=={Version(str(number)).public}\n"
    except (InvalidName, InvalidVersion):
        return f"# left out, no name and version of a package: {name!a}, {number!a}\n"


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
    found = [versions for versions in facts["versions"] if isinstance(versions, Mapping)]
    pythons = sorted({str(versions["python"]) for versions in found if "python" in versions})
    said = {
        "Python": pythons,
        "device": facts["device"],
        "instruction set": facts["instruction_set"],
        "threads of torch": facts["num_threads"],
        "commit": [str(commit)[:12] for commit in facts["commit"]],
    }
    words = [f"{what}: {', '.join(map(str, values))}" for what, values in said.items() if values]
    return one_line(f"They were trained on: {'; '.join(words) or 'nothing is recorded'}")
