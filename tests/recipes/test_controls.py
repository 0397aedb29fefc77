"""The controls from end to end: disturbed starts through `finetune`, pictures through `pretrain`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.recipes.toys import backbone, corpus, dataset, finetune_config, pretrain_config
from wikirl.errors import BackboneError, ConfigError
from wikirl.models.backbone import load_backbone, load_gpt, weights_fingerprint
from wikirl.models.bundle import load_policy
from wikirl.recipes.building import make_backbone
from wikirl.recipes.finetune import finetune
from wikirl.recipes.pretrain import pretrain
from wikirl.recipes.settings import resolve
from wikirl.trajectories.sources import load_trajectories


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A dataset and a pre-trained backbone for all tests of this module."""
    folder = tmp_path_factory.mktemp("toys")
    return dataset(folder), backbone(folder)


@pytest.mark.parametrize("name", ["moments:{}", "permuted:{}", "noised:{}@0.1"])
def test_finetune_from_disturbed_weights(tmp_path: Path, toys: tuple[str, str], name: str) -> None:
    data, start = toys
    name, text = name.format(start), corpus(tmp_path)
    prints = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = finetune_config(data, name, recipe="paper", cotraining_corpus=str(text), seed=seed)
        scores = finetune(config, tmp_path / folder, device="cpu", precision="float32")
        assert np.isfinite(scores["held_out_action_error"])
        run = json.loads((tmp_path / folder / "config.json").read_text())
        assert run["backbone"] == name
        prints.append(run["backbone_fingerprint"])
        assert load_policy(tmp_path / folder / "policy").target_return is not None
    assert prints[0] == prints[1] != prints[2]
    assert weights_fingerprint(load_backbone(start)) not in prints
    weights = [(tmp_path / folder / "policy" / "model.safetensors").read_bytes() for folder in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_no_noise_is_the_backbone_itself(toys: tuple[str, str]) -> None:
    data, start = toys
    configs = [finetune_config(data, name) for name in (start, f"noised:{start}@0")]
    trajectories = load_trajectories(data)
    plain, noised = (make_backbone(resolve(config, trajectories, None)).state_dict() for config in configs)
    assert all(torch.equal(plain[name], noised[name]) for name in plain)


def test_disturbed_weights_where_none_are_taken(tmp_path: Path, toys: tuple[str, str]) -> None:
    data, start = toys
    with pytest.raises(ConfigError, match="expected architecture with undisturbed weights; found moments:chibit"):
        finetune(finetune_config(data, "scratch", architecture="moments:chibit"), tmp_path / "a", device="cpu")
    with pytest.raises(ConfigError, match="expected start with undisturbed weights; found permuted:"):
        pretrain(pretrain_config(tmp_path / "none.txt", start=f"permuted:{start}"), tmp_path / "b")
    with pytest.raises(BackboneError, match="use one prefix"):
        finetune(finetune_config(data, f"moments:permuted:{start}"), tmp_path / "c", device="cpu")


def test_pretrain_on_pictures_and_finetune_from_it(tmp_path: Path, toys: tuple[str, str]) -> None:
    album, out = tmp_path / "album", tmp_path / "backbone"
    album.mkdir()
    for number in range(40):  # the left half of one of two colours, the right half of the other
        halves = np.zeros((8, 8, 3), np.uint8)
        halves[:, :4] = (255, 0, 0) if number % 3 else (0, 0, 255)
        Image.fromarray(halves).save(album / f"{number}.png")
    config = pretrain_config(Path(f"images:{album}"), num_steps=30, num_positions=128, learning_rate=1e-2)
    summary = pretrain(config, out, precision="float32")
    assert summary["held_out_perplexity"] < 100  # of 513; it has learnt something
    assert summary["num_bytes_held_out"] == 0
    assert summary["num_tokens_corpus"] == 38 * 1024
    card = (out / "README.md").read_text()
    assert "images:album (fingerprint" in card
    assert "| held-out text | every 20th picture: 2 documents, 2,048 tokens |" in card
    loaded = load_gpt(str(out))
    assert (loaded.config.vocab_size, loaded.config.num_positions) == (513, 128)
    scores = finetune(finetune_config(toys[0], str(out)), tmp_path / "run", device="cpu", precision="float32")
    assert np.isfinite(scores["held_out_action_error"])
