"""Planning and reporting load no torch: it takes seconds, and a login node may not have it."""

import subprocess
import sys
import textwrap

import pytest

STEPS = {
    "import ema_lab": """
        import sys, ema_lab
        assert "numpy" not in sys.modules
    """,
    "ema-lab --help and the completion of a command": """
        import os
        from ema_lab.cli.main import app, run
        from typer.main import get_command
        for line in ("--help", "--version"):
            assert run([line]) == 0
        group = get_command(app)
        context = group.make_context("ema-lab", [], resilient_parsing=True)
        assert [item.value for item in group.shell_complete(context, "sto")] == ["store"]
        layers = {name.split(".")[1] for name in sys.modules if name.startswith("ema_lab.")}
        assert layers == {"characters", "cli", "errors", "wording"}, layers
        found = sys.modules.keys() & {"ema_lab.cli.plan", "yaml", "numpy", "rich.console", "asyncio"}
        assert not found, found
    """,
    "ema-lab plan and status": """
        for line in ("plan quickstart", "status quickstart"):
            assert run(line.split()) == 0, line
        found = sys.modules.keys() & {"asyncio", "rich.progress", "numpy", "ema_lab.search.sweep"}
        assert not found, found
    """,
    "ema-lab list, plan, status, report, show, schema": """
        from ema_lab.cli.main import run
        words = "list, list runs, plan quickstart, status quickstart, show ema, schema"
        for line in [*words.split(", "), "report quickstart --out out"]:
            assert run(line.split()) == 0, line
            check(line)
    """,
    "expanding an ablation": """
        from ema_lab.execution import executor as execution, smoke
        from ema_lab.store import source, store
        ablation = ema_lab.load_ablation("quickstart")
        assert len(ablation.runs()) == 21
        assert len(source.source_hashes(ablation.runs()[0])) == 4
        assert smoke.smoke_spec(ablation.runs()[0]).run_id
    """,
    "every module of the layers that plan, store, search and report": """
        import importlib, pathlib
        root = pathlib.Path(ema_lab.__file__).parent
        layers = "ablation audit execution registry reports results search specs statistics store tables"
        for layer in layers.split():
            for file in sorted((root / layer).rglob("*.py")):
                importlib.import_module(".".join(file.with_suffix("").relative_to(root.parent).parts))
    """,
}
CHECK = """\
def check(step):
    loaded = {"torch", "lightning"} & sys.modules.keys()
    assert not loaded, (step, loaded)

"""


def test_torch_stays_out(tmp_path):
    steps = [f"{textwrap.dedent(text)}\ncheck({name!r})\n" for name, text in STEPS.items()]
    program = "import sys\n\n" + CHECK + "\n".join(steps)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("Error")) == (0, 0), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan quickstart --check", "cost quickstart"])
def test_checking_and_counting_models_load_neither_lightning_nor_a_compiler(tmp_path, command):
    program = (
        "import sys\n"
        "from ema_lab.cli.main import run\n"
        f"assert run({command.split()!r}) == 0\n"
        "assert 'torch' in sys.modules\n"
        "heavy = {'lightning', 'torchmetrics', 'torchvision', 'torch._dynamo', 'sympy', 'matplotlib'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
