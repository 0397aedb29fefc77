import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.helpers import HIGH, LOW, MAX_TIMESTEPS, NUM_CHOICES, random_batch, rows_of, tiny_gpt, tiny_transformer
from wikirl.errors import ConfigError
from wikirl.models.actions import ActionChoices, ActionScaler
from wikirl.models.decision_transformer import DecisionTransformer, Normalizer
from wikirl.types import TrajectoryBatch

OPTIONS: list[dict[str, Any]] = [
    {},
    {"share_positions": True, "share_projection": True, "timestep_placement": "after_norm"},
    {"choices": True},
    {"choices": True, "share_projection": True, "timestep_placement": "after_norm"},
]


def batch_for(model: DecisionTransformer, *arguments: Any, **options: Any) -> TrajectoryBatch:
    return random_batch(*arguments, choices=isinstance(model.scaler, ActionChoices), **options)


def actions_of(model: DecisionTransformer, batch: TrajectoryBatch) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(batch).actions)


def slow_unit(action: Tensor) -> Tensor:
    """An action as its embedding takes it; a choice as it is."""
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    return 2 * (action - low) / (high - low) - 1 if action.ndim else action


@torch.no_grad()
def slow_tokens(model: DecisionTransformer, batch: TrajectoryBatch) -> Tensor:
    """Tokens as they enter the backbone, one at a time."""
    rows = []
    for b, k in torch.ones_like(batch.mask).nonzero().tolist():
        raw = (batch.observations[b, k] - torch.tensor([1.0, -2.0, 0.0])) / torch.tensor([0.5, 2.0, 1.0])
        time = model.timestep_table[batch.timesteps[b, k]]
        for value, layer in [
            (batch.returns_to_go[b, k] / 2.0, model.embed_return),
            (raw, model.embed_observation),
            (slow_unit(batch.actions[b, k]), model.embed_action),
        ]:
            token = layer(value)
            before = model.config.timestep_placement == "before_norm"
            rows.append(model.embed_norm(token + time) if before else model.embed_norm(token) + time)
    return torch.stack(rows).view(len(batch.mask), -1, 16)


@pytest.mark.parametrize("options", OPTIONS)
def test_tokens_are_return_observation_action_of_each_step(options: dict[str, Any]) -> None:
    model = tiny_transformer(**options)
    batch = batch_for(model)
    normed, entering = model.embed(batch)
    torch.testing.assert_close(entering.detach(), slow_tokens(model, batch), rtol=1e-4, atol=1e-4)
    assert torch.equal(model(batch).token_embeddings, normed)
    assert torch.equal(normed, entering) is (model.config.timestep_placement == "before_norm")


def test_after_the_norm_what_alignment_sees_knows_no_time() -> None:
    batch = random_batch()
    later = replace(batch, timesteps=(batch.timesteps + 1) % MAX_TIMESTEPS)
    for placement, same in (("after_norm", True), ("before_norm", False)):
        model = tiny_transformer(timestep_placement=placement)
        assert torch.equal(model.embed(batch)[0], model.embed(later)[0]) is same
        assert not torch.equal(model.embed(batch)[1], model.embed(later)[1])


@pytest.mark.parametrize("options", OPTIONS)
def test_actions_are_read_at_observations(options: dict[str, Any]) -> None:
    model = tiny_transformer(**options)
    batch = batch_for(model)
    with torch.no_grad():
        hidden = model.backbone(model.embed(batch)[1], batch.mask.repeat_interleave(3, dim=1))
        at = torch.stack([hidden[:, 3 * k + 1] for k in range(4)], dim=1)
        if model.predict_action is None:
            rows = model.embed_action.weight if "choices" in options else model.embed_action.weight.T
            raw = at @ rows.T  # no bias
        else:
            raw = at @ model.predict_action.weight.T + model.predict_action.bias
        low, high = torch.tensor(LOW), torch.tensor(HIGH)
        expected = raw if "choices" in options else low + (raw.tanh() + 1) / 2 * (high - low)
    torch.testing.assert_close(actions_of(model, batch), expected, rtol=1e-4, atol=1e-4)


def changed(batch: TrajectoryBatch, name: str, step: int, *, later_too: bool) -> TrajectoryBatch:
    value = getattr(batch, name).clone()
    steps = slice(step, None if later_too else step + 1)
    whole = {"timesteps": MAX_TIMESTEPS, "actions": NUM_CHOICES}.get(name) if not value.is_floating_point() else None
    value[:, steps] = (value[:, steps] + 1) % whole if whole else value[:, steps] + 3.7
    return replace(batch, **{name: value})


@given(step=st.integers(0, 3), seed=st.integers(0, 50), options=st.sampled_from(OPTIONS))
def test_a_prediction_sees_no_action_of_its_step_and_nothing_later(
    step: int, seed: int, options: dict[str, Any]
) -> None:
    model = tiny_transformer(**options)
    batch = batch_for(model, (4, 4), seed=seed)
    other = changed(batch, "actions", step, later_too=True)
    for name in ("observations", "returns_to_go", "timesteps"):
        other = changed(other, name, step + 1, later_too=True)
    before, after = actions_of(model, batch), actions_of(model, other)
    torch.testing.assert_close(after[:, : step + 1], before[:, : step + 1], rtol=1e-5, atol=1e-5)


@given(step=st.integers(0, 3), seed=st.integers(0, 50), options=st.sampled_from(OPTIONS))
def test_a_prediction_sees_what_came_before(step: int, seed: int, options: dict[str, Any]) -> None:
    model = tiny_transformer(**options)
    batch = batch_for(model, (4, 4), seed=seed)
    before = actions_of(model, batch)
    for name, first in (
        ("observations", step),
        ("returns_to_go", step),
        ("timesteps", step),
        ("actions", step + 1),
    ):
        after = actions_of(model, changed(batch, name, step, later_too=False))
        differs = (after != before).any(dim=-1)
        assert differs[:, first:].all(), name
        torch.testing.assert_close(after[:, :first], before[:, :first], rtol=1e-5, atol=1e-5)


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    garbage=st.sampled_from([1.0, -50.0, 1e4]),
    seed=st.integers(0, 50),
    options=st.sampled_from(OPTIONS),
)
def test_left_padding_is_invisible_whatever_it_holds(
    lengths: list[int], garbage: float, seed: int, options: dict[str, Any]
) -> None:
    model = tiny_transformer(**options)
    batch = batch_for(model, lengths, 5, seed=seed)
    dirty = {
        name: torch.where(batch.mask[..., None], getattr(batch, name), garbage)
        for name in ("observations", "actions", "returns_to_go")
        if getattr(batch, name).is_floating_point()
    }
    if "choices" in options:
        dirty["actions"] = torch.where(batch.mask, batch.actions, NUM_CHOICES - 1)
    dirty["timesteps"] = torch.where(batch.mask, batch.timesteps, MAX_TIMESTEPS - 1)
    found = actions_of(model, replace(batch, **dirty))
    assert torch.isfinite(found).all()
    for row, length in enumerate(lengths):
        alone = rows_of(batch, slice(row, row + 1), slice(5 - length, None))
        torch.testing.assert_close(found[row, 5 - length :], actions_of(model, alone)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_row_alone_is_the_row_in_a_batch(options: dict[str, Any]) -> None:
    model = tiny_transformer(**options)
    batch = batch_for(model, (4, 3, 1, 2))
    together = actions_of(model, batch)
    for row in range(4):
        alone = actions_of(model, rows_of(batch, slice(row, row + 1)))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-5)


def test_images_are_flattened() -> None:
    batch = random_batch()
    folded = replace(batch, observations=batch.observations[..., None])
    model = tiny_transformer()
    assert torch.equal(actions_of(model, folded), actions_of(model, batch))


def test_shared_positions_are_the_same_tensor_repeated_to_the_horizon() -> None:
    gpt = tiny_gpt()
    assert gpt.wpe is not None
    first_rows = gpt.wpe.weight.detach().clone()
    torch.manual_seed(0)
    built = DecisionTransformer(
        replace(tiny_transformer().config, share_positions=True),
        gpt,
        Normalizer(torch.zeros(3), torch.ones(3)),
        ActionScaler(torch.tensor(LOW), torch.tensor(HIGH)),
    )
    assert built.embed_timestep is None
    assert built.timestep_table is gpt.wpe.weight
    assert torch.equal(gpt.wpe.weight, torch.cat([first_rows, first_rows[: MAX_TIMESTEPS - 8]]))
    assert [name for name, _ in built.named_parameters() if "wpe" in name or "timestep" in name] == [
        "backbone.wpe.weight"
    ]


def test_a_timestep_table_of_its_own() -> None:
    model = tiny_transformer()
    assert model.backbone.position_table is not None
    assert model.timestep_table is not model.backbone.position_table
    assert model.timestep_table.shape == (MAX_TIMESTEPS, 16)
    short = tiny_transformer(share_positions=True, max_timesteps=5)
    assert len(short.timestep_table) == 8


def test_sharing_needs_a_table() -> None:
    with pytest.raises(ConfigError, match="position table"):
        tiny_transformer(tiny_gpt(num_positions=0), share_positions=True)
    assert tiny_transformer(tiny_gpt(num_positions=0)).timestep_table.shape == (MAX_TIMESTEPS, 16)


def test_own_parameters_and_the_backbones_are_all() -> None:
    model = tiny_transformer(share_positions=True)
    own, theirs = ({id(p) for p in ps} for ps in (model.own_parameters(), model.backbone.parameters()))
    assert not own & theirs
    assert own | theirs == {id(p) for p in model.parameters()}


BLOCK = {
    f"backbone.h.{layer}.{name}.{kind}"
    for layer in range(2)
    for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
}
OUTSIDE = {
    f"{name}.{kind}"
    for name in ("embed_return", "embed_observation", "embed_action", "embed_norm", "predict_action")
    for kind in ("weight", "bias")
} | {"embed_timestep.weight"}
TABLES = {"backbone.wte.weight", "backbone.wpe.weight"}
FINAL = {"backbone.ln_f.weight", "backbone.ln_f.bias"}


@pytest.mark.parametrize(
    ("what", "trained"),
    [
        ("none", OUTSIDE | TABLES | FINAL | BLOCK),
        ("blocks", OUTSIDE | TABLES | FINAL),
        ("all_but_norms_and_projections", OUTSIDE | FINAL | {name for name in BLOCK if ".ln_" in name}),
    ],
)
def test_what_freezing_leaves(what: Any, trained: set[str]) -> None:
    model = tiny_transformer()
    assert {name for name, _ in model.named_parameters()} == OUTSIDE | TABLES | FINAL | BLOCK
    model.freeze(what)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == trained


def test_actions_of_another_size_are_refused() -> None:
    model = tiny_transformer()
    for codec in (ActionChoices(NUM_CHOICES), ActionScaler(-torch.ones(3), torch.ones(3))):
        with pytest.raises(ConfigError, match=f"actions of size 2; found {codec.size}"):
            DecisionTransformer(model.config, model.backbone, model.normalizer, codec)


def test_a_frozen_backbone_still_passes_gradients_to_what_is_before_it() -> None:
    model = tiny_transformer()
    model.freeze("blocks")
    batch = random_batch()
    torch.autograd.backward(functional.mse_loss(model(batch).actions[batch.mask], batch.actions[batch.mask]))
    for name in OUTSIDE:
        gradient = model.get_parameter(name).grad
        assert gradient is not None, name
        assert gradient.abs().sum() > 0, name


def test_predictions_stay_within_asymmetric_bounds() -> None:
    model = tiny_transformer()
    assert model.predict_action is not None
    batch, ends = random_batch(), []
    for size in (0.1, 10.0, 1e4, -1.0):
        with torch.no_grad():
            model.predict_action.weight.mul_(size)
        found = actions_of(model, batch)
        assert (found >= torch.tensor(LOW)).all()
        assert (found <= torch.tensor(HIGH)).all()
        ends += [found.amin((0, 1)), found.amax((0, 1))]
    assert torch.stack(ends).amin(0).tolist() == list(LOW)
    assert torch.stack(ends).amax(0).tolist() == list(HIGH)


def test_the_normalizer_standardises() -> None:
    observations = torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(0)) * 7 + 3
    flat = observations.flatten(0, 1)
    found = Normalizer(flat.mean(0), flat.std(0))(observations).flatten(0, 1)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(3), atol=1e-5, rtol=0)
    still = Normalizer(torch.zeros(1), torch.zeros(1))
    assert still(torch.full((1, 1, 1), 1e-6)).item() == pytest.approx(1)


def test_the_normalizer_keeps_its_own_copy() -> None:
    mean, std = torch.zeros(2), torch.ones(2)
    normalizer = Normalizer(mean, std)
    mean += 5
    std += 5
    assert normalizer.mean.tolist() == [0, 0]
    assert normalizer.std.tolist() == pytest.approx([1, 1])
    assert {name for name, _ in normalizer.named_parameters()} == set()
    assert math.isclose(float(normalizer.state_dict()["std"][0]), 1.000001, rel_tol=1e-6)
