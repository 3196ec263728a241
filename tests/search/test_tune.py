"""Fair search: equal budgets, winners, fresh seeds, and the resulting ablation."""

from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from search_fakes import GROUPS, LR

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import DefinitionError, EmaLabError, SpecError
from ema_lab.search.objective import Objective
from ema_lab.search.study import EndedTrial, SweepStudy
from ema_lab.search.tuning import (
    RowSearch,
    check_output_path,
    final_run,
    fresh_seeds,
    missing,
    own_trials,
    row_sweeps,
    space_for_all,
    tuned_definition,
    tuned_text,
    write_tuned,
)
from ema_lab.search.winner import AS_WRITTEN, chance_warning, search_notes, winner
from ema_lab.specs.dataset import DatasetFacts

TOP1 = Objective("val_top1", +1)
LOSS = Objective("val_loss", -1)


def ended(number, value=None, state="done", *, warm=False):
    return EndedTrial(number, state, {}, None if value is None else (value,), warm=warm)


class TestFreshSeeds:
    @pytest.mark.parametrize(
        ("used", "fresh"), [([0], [1, 2, 3]), ([0, 1], [2, 3, 4]), ([2], [0, 1, 3]), ([7], [0, 1, 2])]
    )
    def test_count_from_the_first_number_that_the_search_has_not_used(self, used, fresh):
        assert fresh_seeds(3, used) == fresh

    @given(st.integers(1, 20), st.sets(st.integers(0, 30)))
    def test_are_as_many_as_asked_for_and_none_was_searched(self, count, used):
        seeds = fresh_seeds(count, used)
        assert len(set(seeds)) == count
        assert not used & set(seeds)


class TestWinner:
    def test_is_the_best_finished_trial_and_of_equal_ones_the_first(self):
        trials = [ended(3, 90.0), ended(1, 90.0), ended(0, 80.0), ended(2, state="pruned")]
        assert winner(trials, TOP1).number == 1
        assert winner(trials, LOSS).number == 0

    def test_is_none_where_no_trial_was_finished(self):
        assert winner([ended(0, state="pruned"), ended(1, state="failed")], TOP1) is None

    def test_a_pruned_trial_never_wins(self):
        assert winner([ended(0, 99.0, "pruned"), ended(1, 10.0)], TOP1).number == 1


def test_only_the_first_trials_of_a_search_itself_count():
    trials = [ended(2, 1.0), ended(0, 9.0, warm=True), ended(1, 2.0), ended(3, 99.0)]
    assert [one.number for one in own_trials(trials, 2)] == [1, 2]


def test_rows_that_lack_trials_or_their_recipe_as_written_are_named(write):
    sweep, written = write(LR), ended(AS_WRITTEN, 1.0)
    rows = [
        RowSearch("a", sweep, "s", (ended(0, 1.0),), written),
        RowSearch("b", sweep, "s", (ended(0, 1.0),) * 3, written),
        RowSearch("c", sweep, "s", (ended(0, 1.0),) * 3),
    ]
    assert missing(rows, 3) == {"a": 2, "c": 1}


def facts(classes: int) -> DatasetFacts:
    return DatasetFacts(classes, 1, 8, 10, 10, (0.5,), (0.5,))


class TestChance:
    """Winners at chance level are reported."""

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("val_top1", 10.0, "val_top1 of 10 is at chance: guessing among 10 classes gives 10"),
            ("val_top1", 9.0, "val_top1 of 9 is at chance: guessing among 10 classes gives 10"),
            ("val_top1", 13.4, "val_top1 of 13.4 is at chance: guessing among 10 classes gives 10"),
            ("val_top1", 13.5, ""),
            ("top5", 50.0, "top5 of 50 is at chance: guessing among 10 classes gives 50"),
            ("top5", 57.0, ""),
            ("val_loss", 2.31, "val_loss of 2.31 is at chance: guessing among 10 classes gives 2.303"),
            ("val_loss", 2.30, ""),
        ],
    )
    def test_it_is_within_two_standard_errors_of_guessing(self, name, value, words):
        assert (
            chance_warning(name, value, facts(10), 300) == words
        )  # two errors of 300 guesses at 10 % are 3.46

    def test_of_one_class_nothing_is_chance(self):
        assert chance_warning("val_top1", 100.0, facts(1), 300) == ""

    def test_fewer_classes_than_guesses_are_never_at_chance(self):
        assert chance_warning("top5", 100.0, facts(4), 300) == ""


def test_a_search_says_what_its_winner_is_worth(write):
    sweep, best = write(LR), ended(3, 95.0)
    best = replace(best, choice={"recipe.optimizer.lr": 0.1})
    written = ended(AS_WRITTEN, 95.0)

    def notes(*given):
        return list(search_notes(sweep, TOP1, *given))

    assert notes(ended(AS_WRITTEN, 80.0), best) == []
    assert winner([best, written], TOP1) is written
    assert notes(written, written) == ["no trial beats the recipe as written, so the table has that recipe"]
    failed = replace(ended(AS_WRITTEN, state="failed"), message="DivergedError: the loss is nan")
    assert notes(failed, best) == [
        "the recipe as written failed in the search (DivergedError: the loss is nan), so tuning cannot be "
        "compared with it"
    ]
    assert notes(written, replace(best, values=(10.0,)))[0].startswith("the winner's val_top1 of 10 is at")
    assert notes(written, None) == ["no trial was finished, so there is no winner"]


class TestSpace:
    def test_what_changes_the_model_is_left_out(self, write):
        space, out = space_for_all(write(GROUPS + LR))
        assert out == ["model.attention.groups"]
        assert [one.key for one in space.parameters] == ["recipe.optimizer.lr"]
        assert [".".join(change.keys) for change in space.constants] == ["data.val_images"]

    def test_its_seeds_can_be_others(self, write):
        assert space_for_all(write(LR), [4, 5])[0].seeds == (4, 5)

    def test_nothing_but_the_model_is_no_space(self, write):
        with pytest.raises(SpecError, match="searches only model keys"):
            space_for_all(write(GROUPS))

    def test_images_are_the_same_for_every_row(self, write):
        with pytest.raises(SpecError, match=r"data\.split_seed: every row needs the same images"):
            space_for_all(write(LR + "  data.split_seed: {values: [0, 1]}\n"))

    def test_every_row_is_searched_around_its_own_cell(self, write, tmp_path):
        space, _ = space_for_all(write(GROUPS + LR))
        found = row_sweeps(load_ablation(tmp_path / "base.yaml"), space)
        names = [one.run({"recipe.optimizer.lr": 0.2}, 0).model.attention.name for one in found.values()]
        assert (list(found), names) == (["none", "ema"], ["none", "ema"])
        assert {one.run({"recipe.optimizer.lr": 0.2}, 0).data.val_images for one in found.values()} == {100}

    def test_a_row_that_it_does_not_fit_is_named(self, write, tmp_path):
        space, _ = space_for_all(write(LR))
        text = (tmp_path / "base.yaml").read_text() + "  few: {data.train_images: 1400}\n"
        (tmp_path / "base.yaml").write_text(text)
        with pytest.raises(DefinitionError, match=r"for the row few: .*train"):
            row_sweeps(load_ablation(tmp_path / "base.yaml"), space)

    def test_an_axis_that_crosses_the_rows_is_refused(self, write, tmp_path):
        space, _ = space_for_all(write(LR))
        text = (tmp_path / "base.yaml").read_text() + "axes: {recipe.epochs: [2, 3]}\n"
        (tmp_path / "base.yaml").write_text(text)
        ablation = load_ablation(tmp_path / "base.yaml")
        with pytest.raises(SpecError, match=r"--only recipe\.epochs=VALUE"):
            row_sweeps(ablation, space)
        assert len(row_sweeps(ablation.only({"recipe.epochs": [2]}), space)) == 2


class TestDefinition:
    @pytest.fixture
    def tuned(self, write, tmp_path):
        """Return the ablation, its space and a function that makes the tuned file."""
        space, _ = space_for_all(write(LR))
        ablation = load_ablation(tmp_path / "base.yaml")
        values = {"none": {"recipe.optimizer.lr": 1.2345678901e-05}, "ema": {"recipe.optimizer.lr": 0.1}}
        return ablation, space, values, tmp_path / "base-tuned.yaml"

    def text(self, tuned, values, seeds=(1, 2)):
        ablation, *_ = tuned
        return tuned_text(
            tuned_definition("base-tuned", ablation, values, seeds, description="d"), ["from a test"]
        )

    def wanted(self, tuned, values):
        ablation, space, *_ = tuned
        return {row: final_run(ablation.rows()[row][0], v, space, 1) for row, v in values.items()}

    def test_gives_each_row_with_its_values_and_nothing_else_of_the_search(self, tuned):
        _, _, values, path = tuned
        assert write_tuned(path, self.text(tuned, values), self.wanted(tuned, values))
        found = load_ablation(path)
        assert found.baseline == "none"
        assert [(cell.row, cell.seed) for cell in found.cells] == [
            ("none", 1), ("none", 2), ("ema", 1), ("ema", 2)
        ]  # fmt: skip
        for cell in found.cells:
            assert cell.spec.recipe.optimizer.lr == values[cell.row]["recipe.optimizer.lr"]
            assert cell.spec.data.val_images == 0
        assert found.rows()["ema"][0].spec.model.attention.resolved() == {"name": "ema", "groups": 4}

    def test_is_written_once(self, tuned):
        _, _, values, path = tuned
        text, wanted = self.text(tuned, values), self.wanted(tuned, values)
        assert write_tuned(path, text, wanted)
        before = path.stat().st_mtime_ns
        assert not write_tuned(path, text, wanted)
        assert path.stat().st_mtime_ns == before

    def test_a_file_that_would_give_other_runs_is_not_written(self, tuned):
        _, _, values, path = tuned
        other = {**values, "ema": {"recipe.optimizer.lr": 0.2}}
        with pytest.raises(EmaLabError, match="would change the rows ema"):
            write_tuned(path, self.text(tuned, other), self.wanted(tuned, values))
        assert not path.exists()

    @pytest.mark.parametrize(("left", "baseline"), [("none", "none"), ("ema", None)])
    def test_a_row_without_a_winner_is_left_out(self, tuned, left, baseline):
        _, _, values, path = tuned
        values = {left: values[left]}
        assert write_tuned(path, self.text(tuned, values), self.wanted(tuned, values))
        assert (list(load_ablation(path).rows()), load_ablation(path).baseline) == ([left], baseline)

    def test_a_file_that_somebody_wrote_is_kept(self, tuned):
        *_, values, path = tuned
        path.write_text(yaml.safe_dump({"name": "base-tuned"}))
        with pytest.raises(SpecError, match="not made by tune"):
            check_output_path(path)
        path.write_text(self.text(tuned, values))
        check_output_path(path)


def test_every_row_draws_the_same_choices_first(write, make, tmp_path):
    space, _ = space_for_all(write(LR))
    drawn = {}
    for row, sweep in row_sweeps(load_ablation(tmp_path / "base.yaml"), space).items():
        search, trier = make(sweep, limit=3)
        while trier() is not None:
            pass
        drawn[row] = [one.choice for one in SweepStudy(search).trials()]
    assert len(drawn["none"]) == 3
    assert drawn["none"] == drawn["ema"]
