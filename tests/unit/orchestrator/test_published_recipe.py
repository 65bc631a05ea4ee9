"""``recipe: published`` is what a method's authors give, and can be changed key by key."""

from __future__ import annotations

import pytest

from mmap_model.configuration import Recipe, Split
from mmap_model.errors import InputError
from mmap_model.methods import get_method, method_names
from orchestrator.study import load_study


def test_every_published_recipe_is_a_recipe() -> None:
    published = {name: get_method(name).published for name in method_names()}
    recipes = {name: Recipe(**keys) for name, keys in published.items() if keys is not None}
    assert recipes["clip_lora"].for_split(Split(shots=6)).steps == 3000
    assert recipes["two_stage"].for_split(Split(shots=16)).steps == 4800
    assert all(recipe.epochs >= get_method(name).least_epochs for name, recipe in recipes.items())
    assert {"mmap", "joint", "zero_shot", "full_ft"}.isdisjoint(recipes)


def test_a_study_takes_it_by_name_and_keeps_its_keys() -> None:
    study = load_study("demo", ["method=zs_lp", "grouping=null", "space=[]", "recipe=published"])
    assert study.recipe == Recipe(lr=0.1, weight_decay=0.0, batch_size=256, epochs=300, views=20)
    plain = study.to_plain()["recipe"]
    assert (plain["views"], plain["epochs"]) == (20, 300)


def test_other_keys_may_stand_beside_it() -> None:
    study = load_study(
        "demo", ["method=task_res", "grouping=null", "space=[]", "recipe={base: published, lr: 0.01}"]
    )
    assert (study.recipe.optimiser, study.recipe.lr, study.recipe.epochs) == ("adam", 0.01, 200)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["recipe=published"], "'mmap' has no published recipe"),
        (["recipe={base: mine}"], "unknown recipe 'mine'"),
        (["method=zs_lp", "grouping=null", "space=[]", "recipe={base: published, rate: 1}"], "rate"),
    ],
)
def test_what_is_not_published_is_refused_by_key(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        load_study("demo", overrides)
    assert "recipe" in str(raised.value.where)


def test_steps_for_every_shot_need_splits_in_shots() -> None:
    from orchestrator.study import load_plan

    with pytest.raises(InputError, match="500 steps for every shot"):
        load_plan(
            "demo",
            ["method=clip_lora", "grouping=null", "space=[]", "recipe=published", "splits=[{percent: 10}]"],
        )


def test_a_comparison_may_train_a_method_by_its_own_recipe_with_the_studys_texts() -> None:
    from orchestrator.compare.plan import plan_comparison

    plan = plan_comparison(
        "symbols",
        [
            "recipe.template=the {}",
            "compare.methods.zs_lp.recipe={base: published, epochs: 40}",
            "compare.methods.task_res.recipe={lr: 0.02}",
        ],
        methods=["zs_lp", "task_res"],
    )
    published, shared = plan.points["zs_lp_grouped"].recipe, plan.points["task_res_stl"].recipe
    assert (published.views, published.epochs, published.lr, published.template) == (20, 40, 0.1, "the {}")
    assert (shared.optimiser, shared.lr, shared.batch_size) == ("sgd", 0.02, 16)
    assert plan.points["zs_lp_grouped"].grouping is not None and plan.points["zs_lp"].grouping is None
    with pytest.raises(InputError, match="'full_ft' has no published recipe") as raised:
        plan_comparison("symbols", ["compare.methods.full_ft.recipe={base: published}"], methods=["full_ft"])
    assert str(raised.value.where).endswith("compare.methods.full_ft.recipe")


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["method=zs_lp", "recipe.templates=[clip_80]"], "recipe.templates"),
        (["method=promptsrc", "settings={depth: 2}"], "settings.anchors"),
        (
            ["method=coop", "settings={prompt_length: 4, init_words: itap of a pancake}"],
            "settings.init_words",
        ),
    ],
)
def test_a_reduced_clip_refuses_words_that_it_lacks_before_anything_starts(
    overrides: list[str], where: str
) -> None:
    from orchestrator.study import load_plan

    with pytest.raises(InputError, match="lacks words of") as raised:
        load_plan("demo", ["grouping=null", "space=[]", *overrides])
    assert where in str(raised.value.where)


def test_a_reduced_clip_takes_words_that_it_knows() -> None:
    from orchestrator.study import load_plan

    settings = "settings={depth: 2, anchors: 'a photo of a {}.'}"
    assert load_plan("demo", ["grouping=null", "space=[]", "method=promptsrc", settings]).trials == 1
