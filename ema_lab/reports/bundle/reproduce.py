"""Reproduction of a bundle's runs: a shell script, and the package versions that it installs."""

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
    """Return the package versions that runs were trained with; of differing versions, the last.

    Local versions (`+cpu`) are dropped, since no index has them. Pairs that are not a name and a version (PEP
    503, PEP 440) become comments, whatever other runs record for the same package: pip would obey an option
    or an address in them.
    """
    environments = [versions for versions in facts["versions"] if isinstance(versions, Mapping)]
    pins: dict[str, str] = {}
    left_out: dict[str, None] = {}
    for name, number in (pair for versions in environments for pair in versions.items()):
        if name in NOT_PINNED:
            continue
        if version := _version(name, number):
            pins[name] = version
        else:
            left_out[f"# left out, no name and version of a package: {name!a}, {number!a}\n"] = None
    return "".join((*sorted(left_out), *(f"{name}=={pins[name]}\n" for name in sorted(pins))))


def _version(name: str, number: object) -> str | None:
    """Return a package's public version; None if it is no name and version of a package."""
    try:
        canonicalize_name(name, validate=True)
        if "\n" in name:  # packaging's pattern accepts a line break at the end
            return None
        return Version(str(number)).public
    except (InvalidName, InvalidVersion):
        return None


def reproduce_script(facts: Mapping[str, Any], ablations: Sequence[str]) -> str:
    """Return the shell script.

    Args:
        facts: Content of `bundle.json`.
        ablations: Paths of the ablation files, relative to the bundle.
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
    """Describe the training machine in a line; only the same kind of machine gives equal bits."""
    environments = [versions for versions in facts["versions"] if isinstance(versions, Mapping)]
    pythons = sorted({str(versions["python"]) for versions in environments if "python" in versions})
    parts = {
        "Python": pythons,
        "device": facts["device"],
        "instruction set": facts["instruction_set"],
        "threads of torch": facts["num_threads"],
        "commit": [str(commit)[:12] for commit in facts["commit"]],
    }
    texts = [f"{name}: {', '.join(map(str, values))}" for name, values in parts.items() if values]
    return one_line(f"They were trained on: {'; '.join(texts) or 'nothing is recorded'}")
