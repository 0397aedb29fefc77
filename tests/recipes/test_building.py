"""From a configuration to backbone and model: decoders of other families, scratch ones too."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.decoders import write_decoder
from tests.recipes.toys import dataset, finetune_config
from wikirl.errors import ConfigError
from wikirl.models.backbone import weights_fingerprint
from wikirl.recipes.building import make_backbone, make_model, optimizer_groups
from wikirl.recipes.finetune import finetune
from wikirl.recipes.settings import FinetuneConfig, resolve
from wikirl.trajectories.sources import load_trajectories

DECODERS = ["gpt_neox", "opt", "llama"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return dataset(tmp_path_factory.mktemp("data"))


def resolved(config: FinetuneConfig) -> FinetuneConfig:
    return resolve(config, load_trajectories(config.dataset), None)


@pytest.mark.parametrize("architecture", DECODERS)
def test_scratch_differs_in_nothing_but_its_weights(tmp_path: Path, data: str, architecture: str) -> None:
    start = write_decoder(tmp_path, architecture)
    configs = [finetune_config(data, start)] + [
        finetune_config(data, "scratch", architecture=start, seed=seed) for seed in (0, 0, 1)
    ]
    backbones = [make_backbone(resolved(config)) for config in configs]
    described = [backbone.to_json() for backbone in backbones]
    assert all(description == described[0] for description in described)
    pretrained, scratch, again, other = (weights_fingerprint(backbone) for backbone in backbones)
    assert scratch == again
    assert len({pretrained, scratch, other}) == 3
    models = [
        make_model(resolved(config), load_trajectories(data), backbone)[0]
        for config, backbone in zip(configs[:2], backbones[:2], strict=True)
    ]
    ours, theirs = (dict(model.named_parameters()) for model in models)
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}
    around = {name for name in ours if not name.startswith("backbone.")}
    assert all(torch.equal(ours[name], theirs[name]) for name in around)
    groups = [optimizer_groups(resolved(configs[0]), model)[0]["params"] for model in models]
    assert len(groups[0]) == len(groups[1]) == len(ours)
    assert models[0].backbone.word_table is None


def test_alignment_goes_to_the_words_of_any_decoder(tmp_path: Path, data: str) -> None:
    start = write_decoder(tmp_path, "gemma")
    config = resolved(finetune_config(data, start, alignment="paper"))
    model, centres = make_model(config, load_trajectories(data), make_backbone(config))
    assert centres is not None
    assert centres.shape == (10, 16)
    assert model.backbone.word_table is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "paper"}, r"position table .* {start} has none; use --no-share-positions"),
        ({"cotraining_corpus": "text.txt"}, r"GPT-2 family .* {start} is of another; leave --cotraining-corpus out"),
        ({"context_length": 11}, r"at most 32 tokens, as {start} takes; found 33.* --context-length 10 or less"),
    ],
)
@pytest.mark.parametrize("scratch", [False, True])
def test_what_other_families_cannot_do(
    tmp_path: Path, data: str, options: dict[str, Any], words: str, scratch: bool
) -> None:
    start = write_decoder(tmp_path / "decoder", "llama")
    config = finetune_config(data, **options, **({"architecture": start} if scratch else {"start": start}))
    with pytest.raises(ConfigError, match=words.format(start=start)) as error:
        finetune(config, tmp_path / "run", device="cpu", precision="float32")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
