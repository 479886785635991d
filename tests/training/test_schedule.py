from __future__ import annotations

import math

import pytest
import torch

from clipvg.errors import InputError
from clipvg.training import FitConfig
from clipvg.training.config import learning_rate_factor


def factors(name: str, epochs: int, **options: object) -> list[float]:
    return [
        learning_rate_factor(
            FitConfig(schedule=name, **options), e * 3, steps=epochs * 3, steps_per_epoch=3
        )
        for e in range(epochs)
    ]


@pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("cosine", lambda e: 0.5 * (1 + math.cos(math.pi * e / 90))),
        ("poly", lambda e: (1 - e / 90) ** 0.9),
        ("exponential", lambda e: 0.9**e),
        ("constant", lambda e: 1.0),
    ],
)
def test_epoch_schedules_are_torchs_lambda_rules(name: str, curve: object) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.LambdaLR(optimizer, curve)
    for factor in factors(name, 90):
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        reference.step()


def test_step_schedule_drops_after_sixty_epochs() -> None:
    values = factors("step", 90)
    assert values[59] == 1.0
    assert values[60] == pytest.approx(0.1)


def test_the_factor_holds_during_an_epoch() -> None:
    options = {"steps": 90, "steps_per_epoch": 9}
    epoch = {learning_rate_factor(FitConfig(), step, **options) for step in range(9, 18)}
    assert len(epoch) == 1


def test_warm_up_then_cosine_by_step() -> None:
    config = FitConfig(schedule_by="step", warmup_steps=10)
    values = [
        learning_rate_factor(config, step, steps=110, steps_per_epoch=7) for step in range(110)
    ]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10] == pytest.approx(1.0)
    assert values[60] == pytest.approx(0.5)
    assert values[109] < 1e-3
    assert all(0 <= value <= 1 for value in values)


def test_the_learning_rate_scales_with_the_effective_batch() -> None:
    published = FitConfig(batch_size=64, base_batch=384)
    assert published.scaled_lr(6) == pytest.approx(2.5e-4)
    assert published.scaled_lr(1) == pytest.approx(2.5e-4 / 6)
    assert FitConfig(batch_size=64, accumulate=6, base_batch=384).scaled_lr() == pytest.approx(
        2.5e-4
    )
    assert FitConfig(batch_size=64, accumulate=3).scaled_lr(2) == 2.5e-4


def test_bad_options_are_listed_together() -> None:
    with pytest.raises(InputError) as caught:
        FitConfig(epochs=0, lr=-1, amp="fp8", augment=True, cache_features=True)
    for part in ("epochs is 0", "lr is -1", "amp is 'fp8'", "cache_features=True needs"):
        assert part in str(caught.value)
