"""Planning and reporting load no torch: it takes seconds, and a login node may not have it."""

import subprocess
import sys
import textwrap

import pytest

PROGRAMS = {
    "import ema_lab": "import ema_lab",
    "expanding an ablation": """
        import ema_lab
        from ema_lab.execution import executor as execution, smoke
        from ema_lab.store import source, store
        ablation = ema_lab.load_ablation("quickstart")
        assert len(ablation.runs()) == 21
        assert len(source.source_hashes(ablation.runs()[0])) == 4
        assert smoke.smoke_spec(ablation.runs()[0]).run_id
    """,
    "every module of the layers that plan, store, search and report": """
        import importlib, pathlib, ema_lab
        root = pathlib.Path(ema_lab.__file__).parent
        layers = "ablation audit execution registry reports results search specs statistics store tables"
        for layer in layers.split():
            for file in sorted((root / layer).rglob("*.py")):
                importlib.import_module(".".join(file.with_suffix("").relative_to(root.parent).parts))
    """,
    "ema-lab plan": """
        from ema_lab.cli.main import run
        assert run(["plan", "quickstart"]) == 0
    """,
    "ema-lab report": """
        from ema_lab.cli.main import run
        assert run(["report", "quickstart", "--out", "out"]) == 0
    """,
    "ema-lab list and schema": """
        from ema_lab.cli.main import run
        assert run(["list", "attentions"]) == 0
        assert run(["schema"]) == 0
    """,
}
CHECK = "import sys; loaded = {'torch', 'lightning'} & sys.modules.keys(); assert not loaded, loaded"


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_torch_stays_out(program, tmp_path):
    text = f"{textwrap.dedent(program)}\n{CHECK}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("Error")) == (0, 0), done.stderr
