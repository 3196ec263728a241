"""Checks that the tests hold the rules: `make mutants` breaks the code in one place at a time.

Each entry of `mutants.yaml` changes a line so that a user would get a wrong number, lose a result or
compare unfairly, and names the tests that must then fail. The code is changed in a temporary copy of the
checkout. A mutant is killed only by a failing test: a file that no longer imports proves nothing.
"""

import argparse
import importlib
import importlib.util
import json
import math
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("mutants.yaml")
PACKAGE = "ema_lab"
SECONDS = 600  # limit for the tests of one mutant
OTHER_SECOND = 2 * 10**9  # nanoseconds between the times of a file and of its mutant
# Slow imports of the tests. Not what imports a plugin of pytest (timm, hypothesis): pytest warns of these.
PRELOADED = (
    *("torch", "lightning.pytorch", "torchvision", "torchmetrics.detection", "scipy.stats", "optuna"),
    *("fvcore.nn", "sklearn.datasets", "statsmodels.stats.multitest"),
)
SERVE = "--serve"
NO_PYTEST = 70  # exit code where pytest itself ends with an exception: like a failing test it would be 1
ABOUT = "Break the code in one place at a time, and check that the named tests fail."
Outcome = Literal["killed", "survived", "not found", "no test ran", "timed out"]
_BY_EXIT_CODE: dict[int, Outcome] = {0: "survived", 1: "killed"}  # pytest's other codes: no test has failed


class RequestError(Exception):
    """A wrong request, or tests that fail without any mutant."""


@dataclass(frozen=True)
class Mutant:
    """A change of the code that the named tests must notice.

    Attributes:
        name: Unique name.
        area: Kind of rule that the change breaks.
        file: Changed file, relative to the package.
        before: Text of the file, which occurs once.
        after: Text in its place.
        harm: What a user would lose.
        tests: Test files, or ids of single tests, relative to the checkout.
    """

    name: str
    area: str
    file: str
    before: str
    after: str
    harm: str
    tests: tuple[str, ...]

    def applied(self, source: str) -> str | None:
        """Return the mutated source; None unless `before` occurs exactly once."""
        return source.replace(self.before, self.after) if source.count(self.before) == 1 else None


@dataclass(frozen=True)
class Verdict:
    """Outcome of a mutant's tests and their duration in seconds."""

    mutant: Mutant
    outcome: Outcome
    seconds: float = 0.0


def load_mutants(path: Path = TABLE) -> list[Mutant]:
    """Read the table of mutants."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def check_mutants(
    root: Path,
    mutants: Sequence[Mutant],
    *,
    jobs: int = 1,
    seconds: float = SECONDS,
    preloaded: Sequence[str] = PRELOADED,
) -> Iterator[Verdict]:
    """Run the tests of each mutant in copies of a checkout; yield the verdicts as they come.

    Args:
        root: The checkout.
        mutants: The mutants to check.
        jobs: Number of mutants at a time.
        seconds: Time limit for the tests of one mutant.
        preloaded: Modules that the processes import before they know the tests.

    Raises:
        RequestError: If the tests fail without any mutant.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))).resolve()
        _copy_checkout(root, folder / "0")
        first = stack.enter_context(Runner(folder / "0", preloaded))
        if code := first.exit_code(sorted({test for mutant in mutants for test in mutant.tests}), show=True):
            raise RequestError(f"the tests fail without any mutant (pytest's exit code is {code})")
        runners: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        runners.put(first)
        for number in range(1, jobs):
            tree = Path(shutil.copytree(folder / "0", folder / str(number), symlinks=True))
            runners.put(stack.enter_context(Runner(tree, preloaded)))

        def check(mutant: Mutant) -> Verdict:
            runner = runners.get()
            try:
                return check_mutant(runner, mutant, seconds)
            finally:
                runners.put(runner)

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        for future in as_completed([pool.submit(check, mutant) for mutant in mutants]):
            yield future.result()


def check_mutant(runner: "Runner", mutant: Mutant, seconds: float) -> Verdict:
    """Run a mutant's tests in a tree whose file is changed meanwhile."""
    path = runner.tree / PACKAGE / mutant.file
    original, before = path.read_bytes(), path.stat()
    mutated = mutant.applied(original.decode("utf-8"))
    if mutated is None:
        return Verdict(mutant, "not found")
    began = time.monotonic()
    try:
        path.write_text(mutated, encoding="utf-8")
        # A compiled file is valid for a size and a second: a mutant of the original's would be missed.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + OTHER_SECOND))
        code = runner.exit_code(mutant.tests, seconds)
    finally:
        path.write_bytes(original)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # its compiled file is valid again
    outcome: Outcome = "timed out" if code is None else _BY_EXIT_CODE.get(code, "no test ran")
    return Verdict(mutant, outcome, round(time.monotonic() - began, 1))


def _copy_checkout(root: Path, tree: Path) -> None:
    """Copy the files that git tracks or would add, with their times, so that compiled files stay valid."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RequestError(f"git cannot list the files of {root}: {done.stderr.decode().strip()}")
    for name in filter(None, done.stdout.decode().split("\0")):
        if (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name)


class Runner:
    """Process that runs tests of a tree in forks of itself, so that torch is imported once.

    Args:
        tree: Copy of the checkout.
        preloaded: Modules to import first. None of them imports the package.

    Raises:
        RequestError: If the process imports another copy of the package.
    """

    def __init__(self, tree: Path, preloaded: Sequence[str] = ()) -> None:
        self.tree = tree
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), SERVE, *preloaded]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=tree, env=environment, stdin=pipe, stdout=pipe)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def exit_code(
        self, tests: Sequence[str], seconds: float | None = None, *, show: bool = False
    ) -> int | None:
        """Return pytest's exit code for some tests; None if they took too long.

        Args:
            tests: Files or ids.
            seconds: Time limit.
            show: Whether to show pytest's output, and to keep compiled files. A compiled mutant could
                outlive its source.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"tests": list(tests), "seconds": seconds, "show": show}
        self._process.stdin.write(f"{json.dumps(request)}\n".encode())
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or "{}")
        if not str(answer.get("package", "")).startswith(str(self.tree)):
            raise RequestError(f"the tests would import {answer.get('package')}, not the copy in {self.tree}")
        code: int | None = answer["code"]
        return code


def serve(preloaded: Sequence[str]) -> None:
    """Answer requests of a `Runner` until standard input ends."""
    for name in preloaded:
        importlib.import_module(name)
    found = importlib.util.find_spec(PACKAGE)
    for line in sys.stdin:
        request = json.loads(line)
        code = _forked(request["tests"], request["seconds"], show=request["show"])
        print(json.dumps({"code": code, "package": found and found.origin}), flush=True)


def _forked(tests: Sequence[str], seconds: float | None, *, show: bool) -> int | None:
    """Run tests in a fork of this process; return the exit code, or None after the time limit."""
    child = os.fork()
    if child == 0:
        code = NO_PYTEST
        try:
            code = _run_pytest(tests, show=show)
        finally:
            os._exit(code)
    end = math.inf if seconds is None else time.monotonic() + seconds
    ended: int | None = None
    try:
        while ended is None and time.monotonic() < end:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                ended = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.05)
    finally:
        if ended is None:
            os.kill(child, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # the processes that the tests left behind
        if ended is None:
            os.waitpid(child, 0)
    return ended


def _run_pytest(tests: Sequence[str], *, show: bool) -> int:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2 if show else nothing, 1)
    os.dup2(2 if show else nothing, 2)
    if not show:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.path[0] = os.getcwd()  # as `python -m pytest` has it
    code = int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]))
    sys.stdout.flush()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the chosen mutants; return 1 unless all are killed."""
    parser = argparse.ArgumentParser(prog="mutants.py", description=ABOUT)
    parser.add_argument("names", metavar="NAME", nargs="*", help="mutants to check; all by default")
    parser.add_argument("--area", help="check the mutants of one area only")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (default: 1)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit for one mutant's tests")
    parser.add_argument("--json", action="store_true", help="print the verdicts as a JSON array at the end")
    asked = parser.parse_args(arguments)
    try:
        mutants = _chosen(load_mutants(), asked.names, asked.area)
        verdicts = []
        for verdict in check_mutants(ROOT, mutants, jobs=max(1, asked.jobs), seconds=asked.seconds):
            verdicts.append(verdict)
            if not asked.json:
                print(f"{verdict.outcome:11} {verdict.mutant.name} ({verdict.seconds:.1f} s)", flush=True)
    except RequestError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    order = [mutant.name for mutant in mutants]
    verdicts.sort(key=lambda verdict: order.index(verdict.mutant.name))
    if asked.json:
        print(json.dumps([_flat(verdict) for verdict in verdicts], indent=1))
    else:
        print(_summary(verdicts))
    return int(any(verdict.outcome != "killed" for verdict in verdicts))


def _chosen(mutants: Sequence[Mutant], names: Sequence[str], area: str | None) -> list[Mutant]:
    if unknown := sorted(set(names) - {mutant.name for mutant in mutants}):
        raise RequestError(f"no mutant is named {', '.join(unknown)}; {TABLE.name} lists them")
    chosen = [
        mutant for mutant in mutants if (not names or mutant.name in names) and area in {None, mutant.area}
    ]
    if not chosen:
        raise RequestError(f"no mutant is left; areas: {', '.join(sorted({one.area for one in mutants}))}")
    return chosen


def _flat(verdict: Verdict) -> dict[str, object]:
    values = {field.name: getattr(verdict.mutant, field.name) for field in fields(Mutant)}
    return {**values, "outcome": verdict.outcome, "seconds": verdict.seconds}


def _summary(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.outcome for verdict in verdicts)
    lines = [f"{counts['killed']} of {len(verdicts)} mutants are killed"]
    lines += [
        f"  {verdict.outcome}: {verdict.mutant.name}: {verdict.mutant.harm}"
        for verdict in verdicts
        if verdict.outcome != "killed"
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVE]:
        with suppress(KeyboardInterrupt):  # the command itself tells of it
            serve(sys.argv[2:])
    else:
        sys.exit(main())
