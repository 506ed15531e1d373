from __future__ import annotations

import pytest

from profi.cli.arguments import parsed
from profi.training.examples import Draw
from profi.training.recipe import Recipe
from profi.types import UserError

N = 20_000


def test_the_mix_is_the_recipe_s() -> None:
    """80 % inpainted, of them half captioned, levels equally likely; within 5 standard errors."""
    recipe = Recipe()
    draws = [Draw.of(recipe, i) for i in range(N)]
    painted = [draw for draw in draws if draw.level is not None]

    def near(share: float, expected: float, n: int) -> bool:
        return abs(share - expected) < 5 * (expected * (1 - expected) / n) ** 0.5

    assert near(len(painted) / N, 0.8, N)
    assert near(sum(d.captioned for d in painted) / len(painted), 0.5, len(painted))
    assert near(sum(d.silent for d in draws) / N, 0.1, N)
    assert {d.level for d in painted} == set(range(recipe.coarsest + 1)) == set(range(5))
    for level in range(5):
        assert near(sum(d.level == level for d in painted) / len(painted), 0.2, len(painted))


def test_a_draw_depends_on_its_index_and_seed_alone() -> None:
    a, b = Draw.of(Recipe(), 7), Draw.of(Recipe(), 7)
    assert (a.level, a.captioned, a.silent, a.rng.random()) == (
        b.level,
        b.captioned,
        b.silent,
        b.rng.random(),
    )
    assert [Draw.of(Recipe(), i).level for i in range(50)] != [
        Draw.of(Recipe(seed=1), i).level for i in range(50)
    ]


def test_all_or_none_of_the_samples_are_inpainted_where_the_share_says_so() -> None:
    assert all(Draw.of(Recipe(inpainting=0.0), i).level is None for i in range(200))
    assert all(Draw.of(Recipe(inpainting=1.0), i).level is not None for i in range(200))


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    recipe = Recipe(steps=100, rate=2.0, warmup=10, decay=0.4)
    assert recipe.rate_at(0) == pytest.approx(0.2)
    assert recipe.rate_at(30) == recipe.rate_at(59) == 2.0
    assert recipe.rate_at(80) == pytest.approx(1.0)
    assert recipe.rate_at(100) == 0.0


def test_settings_are_read_by_name() -> None:
    (recipe,) = parsed(["steps=7", "rate=1e-4", "blurs=0.1,0.3", "seed=3"], Recipe())
    assert (recipe.steps, recipe.rate, recipe.blurs, recipe.seed) == (7, 1e-4, (0.1, 0.3), 3)
    assert recipe.coarsest == 3


@pytest.mark.parametrize(
    "setting",
    ["steps=0", "stesp=3", "steps", "rate=fast", "inpainting=1.5", "blurs=0.3,0.1", "blurs=-1",
     "ema=1", "threshold=0", "rate=nan", "decay=2", "batch=1.5"],
)  # fmt: skip
def test_a_bad_setting_is_refused_by_its_name(setting: str) -> None:
    with pytest.raises(UserError, match=setting.partition("=")[0]):
        parsed([setting], Recipe())
