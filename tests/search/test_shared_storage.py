"""Searches kept in PostgreSQL or behind Optuna's gRPC proxy, by several processes, some killed."""

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from search_fakes import GROUPS, LR, FakeTrain
from search_workers import DyingTrain, assert_tried_exactly_once, start, work, work_together

from ema_lab.errors import StoreError
from ema_lab.search.study import SweepStudy

pytestmark = pytest.mark.system
TEN = "  recipe.optimizer.lr: {values: [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}\n"
SIXTY = GROUPS + TEN + "  model.attention.local_branch: {values: [true, false]}\n"
GRACE_SECONDS = 6


@pytest.fixture
def database(postgresql: str) -> str:
    """Return the URL of a database of its own."""
    name = f"test_{uuid.uuid4().hex}"
    execute(postgresql, f"CREATE DATABASE {name}")
    return f"{postgresql}/{name}"


SERVE = """
import sys, optuna
from optuna.storages import JournalStorage, run_grpc_proxy_server
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
where, port = sys.argv[1:]
if "://" in where:
    storage = optuna.storages.get_storage(where)
else:
    storage = JournalStorage(JournalFileBackend(where, lock_obj=JournalFileOpenLock(where)))
run_grpc_proxy_server(storage, host="localhost", port=int(port))
"""


@pytest.fixture
def serve() -> Iterator:
    """Start Optuna's proxy before a journal's path or a database, and return its URL."""
    processes = []

    def starter(where: object) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes.append(subprocess.Popen([sys.executable, "-c", SERVE, str(where), str(port)]))
        return f"grpc://localhost:{port}"

    yield starter
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def make_at(make, tmp_path):
    """Return what tries trials that a storage keeps, and is killed once; `store` names its own store."""

    def maker(sweep, url, *, store="runs", train=DyingTrain, limit=None):
        search, trier = make(sweep, limit=limit)
        search = replace(search, storage=url, root=tmp_path / store, grace_seconds=GRACE_SECONDS)
        return replace(trier, search=search, train=train(tmp_path / "log"))

    return maker


class TestPostgreSQL:
    def test_eight_processes_try_a_grid_once_though_one_is_killed(self, write, make_at, database):
        trier = make_at(write(SIXTY, method="grid"), database)
        assert work_together([trier] * 8) == [-9, *[0] * 7]
        assert_tried_exactly_once(trier, 60)

    def test_eight_processes_keep_the_number_of_trials_though_one_is_killed(self, write, make_at, database):
        trier = make_at(write(LR), database, limit=30)
        assert work_together([trier] * 8) == [-9, *[0] * 7]
        assert_tried_exactly_once(trier, 30)

    @pytest.mark.parametrize("method", ["grid", "random"])
    def test_two_stores_share_a_study_and_find_the_dead_by_its_missing_signs_of_life(
        self, write, make_at, database, method
    ):
        sweep = write(SIXTY if method == "grid" else LR, method=method)
        limit = None if method == "grid" else 20
        one, other = (make_at(sweep, database, store=name, limit=limit) for name in ("one", "other"))
        assert work_together([one, other, other, other]) == [-9, 0, 0, 0]
        assert_tried_exactly_once(other, limit or 60)

    def test_a_trial_of_another_store_that_is_slow_is_left_to_it(self, write, make_at, database):
        sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.2]}\n", method="grid")
        slow = make_at(sweep, database, store="slow", train=partial(SlowTrain, url=database))
        fast = make_at(sweep, database, store="fast", train=FakeTrain)
        process = start(work, slow)
        while not (slow.train.log.parent / "begun").exists():
            time.sleep(0.05)
        work(fast)
        process.join()
        assert_tried_exactly_once(fast, 2, died=0)

    def test_a_server_that_goes_away_ends_the_search_in_one_line_and_the_next_goes_on(
        self, write, make_at, database
    ):
        trier = make_at(write(LR), database, limit=4)
        trier = replace(trier, train=CuttingTrain(trier.train.log, url=database))
        with pytest.raises(StoreError, match=r"the search's storage failed: .*does not exist"):
            work(trier)
        server, _, name = database.rpartition("/")
        execute(server, f"ALTER DATABASE {name}_away RENAME TO {name}")
        trier = replace(trier, train=FakeTrain(trier.train.log))
        work(trier)
        assert_tried_exactly_once(trier, 4)


@dataclass
class SlowTrain(FakeTrain):
    """Takes longer than the time without a sign of life after which a trial is dead, by its database's clock.

    It is the first trial, so that its row is the first of those with the last sign of life of each trial.
    """

    url: str = ""

    def __call__(self, spec, job, *, report):
        first = self._sign()
        (self.log.parent / "begun").touch()
        while self._sign() < first + timedelta(seconds=1.5 * GRACE_SECONDS):
            time.sleep(0.05)
        return super().__call__(spec, job, report=report)

    def _sign(self) -> datetime:
        """Return when the trial gave its last sign of life; wait for the first."""
        while not (found := execute(self.url, "SELECT heartbeat FROM trial_heartbeats ORDER BY trial_id")):
            time.sleep(0.05)
        return found[0][0]


@dataclass
class CuttingTrain(FakeTrain):
    """Its database is renamed, and all who use it are thrown out, when the second run is trained."""

    url: str = ""

    def __call__(self, spec, job, *, report):
        outcome = super().__call__(spec, job, report=report)
        if len(self.trained) == 2:
            server, _, name = self.url.rpartition("/")
            execute(
                server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            )
            execute(server, f"ALTER DATABASE {name} RENAME TO {name}_away")
        return outcome


def execute(url: str, statement: str) -> list:
    """Execute a statement in a database, or where none is named in the server's own; return its rows."""
    import sqlalchemy

    whole = url if url.count("/") > 2 else f"{url}/postgres"
    engine = sqlalchemy.create_engine(whole, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        rows = list(result) if result.returns_rows else []
    engine.dispose()
    return rows


class TestProxy:
    @pytest.mark.parametrize("behind", ["journal", "database"])
    def test_four_processes_try_a_grid_once_though_one_is_killed(
        self, write, make_at, serve, request, tmp_path, behind
    ):
        where = tmp_path / "proxy.journal" if behind == "journal" else request.getfixturevalue("database")
        trier = make_at(write(SIXTY, method="grid"), serve(where))
        assert work_together([trier] * 4) == [-9, 0, 0, 0]
        assert_tried_exactly_once(trier, 60)

    def test_four_processes_keep_the_number_of_trials_though_one_is_killed(
        self, write, make_at, serve, tmp_path
    ):
        trier = make_at(write(LR), serve(tmp_path / "proxy.journal"), limit=20)
        assert work_together([trier] * 4) == [-9, 0, 0, 0]
        assert_tried_exactly_once(trier, 20)

    def test_a_second_store_is_refused_as_nobody_could_find_its_dead(self, write, make_at, serve, tmp_path):
        url = serve(tmp_path / "proxy.journal")
        sweep = write(LR)
        SweepStudy(make_at(sweep, url, store="one").search)
        with pytest.raises(StoreError, match="is that of another store"):
            SweepStudy(make_at(sweep, url, store="other").search)
