"""Disturbed weights keep what their name says, destroy the rest, and depend on the seed alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import tiny_gpt
from wikirl.errors import BackboneError
from wikirl.models.backbone import load_backbone, save_backbone
from wikirl.models.perturbed import Perturbation, perturb, perturbation_of

Weights = dict[str, Tensor]
KINDS = ["moments:B", "permuted:B", "noised:B@0.5"]


def weights_of(module: nn.Module) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def disturbed(name: str, module: nn.Module | None = None, seed: int = 0) -> Weights:
    module = module or tiny_gpt(hidden_size=64, inner_size=256)
    perturbation = perturbation_of(name)
    assert perturbation is not None
    perturb(module, perturbation, seed)
    return weights_of(module)


BEFORE = weights_of(tiny_gpt(hidden_size=64, inner_size=256))


@pytest.mark.parametrize("name", KINDS)
def test_every_tensor_keeps_its_shape_and_no_other_thing(name: str) -> None:
    module = tiny_gpt(hidden_size=64, inner_size=256)
    module.register_buffer("counts", torch.arange(5.0))
    after = disturbed(name, module)
    assert {key: (value.shape, value.dtype) for key, value in after.items()} == {
        key: (value.shape, value.dtype) for key, value in BEFORE.items()
    }
    assert not [key for key in BEFORE if torch.equal(BEFORE[key], after[key])]
    assert torch.equal(module.get_buffer("counts"), torch.arange(5.0))
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_moments_keep_mean_and_spread_and_nothing_else() -> None:
    for name, after in disturbed("moments:B").items():
        before, root = BEFORE[name], BEFORE[name].numel() ** 0.5
        spread = before.std().item()
        assert after.mean().item() == pytest.approx(before.mean().item(), abs=5 * spread / root), name
        assert after.std().item() == pytest.approx(spread, rel=5 / (2**0.5 * root)), name
        assert abs(torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1].item()) < 5 / root, name


def test_moments_are_each_tensors_own() -> None:
    module = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 100))
    for layer, (mean, std) in zip(module, [(3.0, 0.01), (-1.0, 2.0)], strict=True):
        nn.init.normal_(layer.weight, mean, std)  # type: ignore[arg-type]
    after = disturbed("moments:B", module)
    assert after["0.weight"].mean().item() == pytest.approx(3.0, abs=1e-3)
    assert after["0.weight"].std().item() == pytest.approx(0.01, rel=0.05)
    assert after["1.weight"].std().item() == pytest.approx(2.0, rel=0.05)


def test_permuted_keeps_every_entry_but_not_its_place() -> None:
    for name, after in disturbed("permuted:B").items():
        assert torch.equal(after.flatten().sort().values, BEFORE[name].flatten().sort().values), name
        assert (after == BEFORE[name]).float().mean() < 0.1, name


def test_no_noise_is_the_same_bits() -> None:
    module = nn.Linear(3, 3)
    with torch.no_grad():
        module.bias.copy_(torch.tensor([-0.0, 0.0, 1.0]))
    before = weights_of(module)
    after = disturbed("noised:B@0", module)
    assert all(before[key].numpy().tobytes() == after[key].numpy().tobytes() for key in before)


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
def test_noise_is_in_units_of_each_tensors_spread(scale: float) -> None:
    for name, after in disturbed(f"noised:B@{scale}").items():
        residual, root = after - BEFORE[name], BEFORE[name].numel() ** 0.5
        expected = scale * BEFORE[name].std(correction=0).item()
        assert residual.std().item() == pytest.approx(expected, rel=5 / (2**0.5 * root)), name
        assert abs(residual.mean().item()) < 5 * expected / root, name


def test_noise_has_one_direction_at_every_scale() -> None:
    one, ten = disturbed("noised:B@1"), disturbed("noised:B@10")
    for name, before in BEFORE.items():
        torch.testing.assert_close(ten[name] - before, 10 * (one[name] - before), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_constant_tensor_stays_constant(name: str) -> None:
    module = nn.Sequential(nn.LayerNorm(7), nn.Linear(7, 7))
    nn.init.constant_(module[0].weight, 0.1)  # type: ignore[arg-type]
    after = disturbed(name, module)
    assert torch.equal(after["0.weight"], torch.full((7,), 0.1))
    assert torch.equal(after["0.bias"], torch.zeros(7))


@pytest.mark.parametrize("name", KINDS)
def test_the_draw_follows_the_seed_and_names_not_the_order_of_modules(name: str) -> None:
    first = disturbed(name)
    same, other = disturbed(name), disturbed(name, seed=1)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not [key for key in first if torch.equal(first[key], other[key])]
    layers = {key: nn.Linear(4, 4) for key in "ab"}
    turned = {key: nn.Linear(4, 4) for key in "ba"}
    for key, layer in layers.items():
        turned[key].load_state_dict(layer.state_dict())
    one, two = disturbed(name, nn.ModuleDict(layers)), disturbed(name, nn.ModuleDict(turned))
    assert list(one) != list(two)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_draw_is_not_that_of_new_layers_under_the_same_seed() -> None:
    module = nn.Linear(50, 50)
    nn.init.normal_(module.weight)
    after = disturbed("moments:B", module, seed=3)["weight"]
    fresh = torch.randn(50, 50, generator=torch.Generator().manual_seed(3))
    assert abs(torch.corrcoef(torch.stack([after.flatten(), fresh.flatten()]))[0, 1].item()) < 0.1


def test_names(tmp_path: Path) -> None:
    assert perturbation_of("moments:chibit") == Perturbation("moments", "chibit")
    assert perturbation_of("permuted:a/b") == Perturbation("permuted", "a/b")
    assert perturbation_of("noised:runs/a@b@1e-2") == Perturbation("noised", "runs/a@b", 0.01)
    for name in ("chibit", "scratch", "gpt2", "./moments:chibit", "momentary:chibit", str(tmp_path)):
        assert perturbation_of(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("moments:", "expected a backbone with weights behind moments:, as in moments:chibit; found 'moments:'"),
        ("permuted:scratch", "expected a backbone with weights behind permuted:"),
        ("noised:@1", "expected a backbone with weights behind noised:, as in noised:chibit@0.1"),
        ("noised:chibit", "expected noised:B@s with a number s of at least 0, as in noised:chibit@0.1"),
        ("noised:chibit@", "with a number s of at least 0"),
        ("noised:chibit@-1", "with a number s of at least 0"),
        ("noised:chibit@nan", "with a number s of at least 0"),
        ("noised:chibit@inf", "with a number s of at least 0"),
        ("noised:chibit@much", "found 'noised:chibit@much'; say how much noise"),
        ("moments:permuted:chibit", "expected a backbone as it is behind moments:.*use one prefix"),
        ("noised:noised:chibit@1@1", "use one prefix"),
    ],
)
def test_names_that_mean_nothing(name: str, words: str) -> None:
    with pytest.raises(BackboneError, match=words) as error:
        load_backbone(name, seed=0)
    assert "\n" not in str(error.value)


def test_a_disturbed_backbone_is_loaded_with_a_seed(tmp_path: Path) -> None:
    save_backbone(tiny_gpt(), tmp_path, end_token=0)
    plain, noised = load_backbone(str(tmp_path)), load_backbone(f"noised:{tmp_path}@0.5", seed=2)
    assert noised.config == plain.config
    expected = disturbed("noised:B@0.5", plain, seed=2)
    assert all(torch.equal(expected[name], value) for name, value in noised.named_parameters())
    with pytest.raises(
        BackboneError, match=f"expected a seed .* found none; use it as --backbone, or '{tmp_path}' here"
    ):
        load_backbone(f"moments:{tmp_path}")
    with pytest.raises(BackboneError, match="no folder at"):
        load_backbone(f"moments:{tmp_path}/nowhere/at/all", seed=0)
