"""What a bundle brings to compute its report again: script, requirements and the package itself."""

import subprocess
import sys
import zipfile
from importlib.metadata import version

import pytest
from bundles import rewrite_sums

from ema_lab.reports.bundle.reproduce import reproduce_script, requirements
from ema_lab.reports.bundle.verify import verify_bundle
from ema_lab.reports.bundle.wheel import build_wheel


class TestReproduce:
    FACTS = {
        "report": "r",
        "ema_lab": "1.0",
        "versions": [{"python": "3.11.2", "ema-lab": "1.0", "torch": "2.4.0+cpu"}],
        "device": ["cpu: a\nprocessor"],
        "instruction_set": ["AVX2"],
        "precision": ["fp32"],
        "num_threads": [2],
        "commit": ["0123456789abcdef"],
    }

    def test_pins_are_versions_that_an_index_has(self):
        assert requirements(self.FACTS) == "torch==2.4.0\n"

    def test_says_where_the_runs_were_trained_and_gives_them_as_many_threads(self):
        script = reproduce_script(self.FACTS, ["ablations/a b.yaml"])
        machine = "# They were trained on: Python: 3.11.2; device: cpu: a processor; instruction set: AVX2; "
        assert f"{machine}threads of torch: 2; commit: 0123456789ab\n" in script
        assert ".venv/bin/ema-lab run 'ablations/a b.yaml' --store again --device cpu --threads 2\n" in script

    @pytest.mark.parametrize(
        ("change", "run"),
        [
            ({"device": ["cuda: x"]}, "run a.yaml --store again --device cuda\n"),
            ({"device": ["cuda: x", "cpu: y"]}, "run a.yaml --store again\n"),
            ({"num_threads": [1, 2]}, "run a.yaml --store again --device cpu\n"),
        ],
    )
    def test_asks_for_threads_only_where_they_are_one_number_and_decide(self, change, run):
        script = reproduce_script({**self.FACTS, **change}, ["a.yaml"])
        assert run in script
        assert "--threads" not in script


class TestWheel:
    def test_holds_the_package_with_its_definitions_and_is_the_same_twice(self, bundled, tmp_path):
        name = f"wheels/ema_lab-{version('ema-lab')}-py3-none-any.whl"
        assert (bundled / name).read_bytes() == build_wheel()[1]
        with zipfile.ZipFile(bundled / name) as wheel:
            names = wheel.namelist()
            record = wheel.read(f"ema_lab-{version('ema-lab')}.dist-info/RECORD").decode()
        assert {"ema_lab/cli/main.py", "ema_lab/bundled/ablations/quickstart.yaml"} <= set(names)
        assert {
            "ema_lab/reports/page/page.html",
            "ema_lab/bundled/reports/published/ema_icassp2023.yaml",
        } <= set(names)
        assert not any("__pycache__" in name for name in names)
        assert sorted(line.partition(",")[0] for line in record.splitlines()) == sorted(names)

    @pytest.mark.slow
    def test_pip_installs_it_and_it_runs_without_the_checkout(self, bundled, tmp_path):
        [wheel] = (bundled / "wheels").glob("*.whl")
        target = tmp_path / "site"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
        subprocess.run([*pip, str(target), str(wheel.absolute())], check=True, capture_output=True)
        program = (
            f"import sys; sys.path.insert(0, {str(target)!r})\n"
            "import ema_lab; from ema_lab.cli.main import main\n"
            f"assert ema_lab.__file__.startswith({str(target)!r})\n"
            "main(['show', 'quickstart'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (target / "bin" / "ema-lab").is_file()

    def test_another_package_is_reported_and_is_no_difference(self, bundled):
        [path] = (bundled / "wheels").glob("*.whl")
        path.write_bytes(b"no wheel")
        rewrite_sums(bundled)
        result = verify_bundle(bundled)
        assert not result.problems
        words = f"wheels/{path.name}: not compared: the wheel holds another version of ema-lab"
        assert any(words in line for line in result.remarks)
