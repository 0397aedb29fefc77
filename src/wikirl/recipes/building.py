"""From a fine-tuning configuration to its parts: backbone, Decision Transformer, parameter groups, co-training text."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from wikirl.errors import ConfigError
from wikirl.models.backbone import CHIBIT, load_backbone, with_dropout
from wikirl.models.decision_transformer import ActionScaler, DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.perturbed import perturbation_of
from wikirl.models.word_clusters import word_clusters
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reproducibility import seed_everything
from wikirl.runs import cache_folder
from wikirl.text.corpora import open_corpus
from wikirl.text.packing import BlockSampler, pack_corpus
from wikirl.text.tokenizers import tokenizer_of
from wikirl.training.optimizer import parameter_groups
from wikirl.trajectories.dataset import TrajectoryDataset

TEXT_BLOCK = 1024


def make_backbone(config: FinetuneConfig) -> GPT:
    """The sequence model to start from, under the run's dropout rates.

    `scratch` takes only the architecture of what it is compared with, its tables included, and draws its weights from
    the seed.
    """
    seed_everything(config.seed)
    if config.backbone == "scratch":
        # DT's own: 3 layers, 1 head, width 128, ReLU, 1024 positions, no words (facts 2.1, Q19)
        gpt = GPT(GPTConfig()) if config.architecture == "dt" else GPT(load_backbone(config.architecture).config)
    else:
        gpt = load_backbone(config.backbone, config.seed)
    assert config.residual_dropout is not None
    return with_dropout(
        gpt,
        embedding=config.embedding_dropout,
        attention=config.attention_dropout,
        residual=config.residual_dropout,
    )


def make_model(
    config: FinetuneConfig, dataset: TrajectoryDataset, backbone: GPT
) -> tuple[DecisionTransformer, Tensor | None]:
    """The Decision Transformer around a backbone, and the cluster centres it is aligned to (None without alignment).

    The new layers are drawn under the run's seed whatever the backbone, so that two starting points differ in nothing
    else.
    """
    centres = None
    if config.alignment != "none":
        if backbone.wte is None:
            raise ConfigError("alignment needs a backbone with word embeddings; found none; use --alignment none")
        clusters = min(config.num_clusters, len(backbone.wte.weight))
        centres = word_clusters(backbone.wte.weight, clusters, cache=cache_folder())
    backbone.drop_tables(
        words=config.cotraining_corpus is None,
        positions=not config.share_positions and config.cotraining_corpus is None,
    )
    seed_everything(config.seed)
    model = DecisionTransformer(_options(config, dataset), backbone, _normalizer(dataset), _scaler(dataset))
    model.freeze(config.freeze)
    return model, centres


def _options(config: FinetuneConfig, dataset: TrajectoryDataset) -> DecisionTransformerConfig:
    if dataset.action_space.is_discrete:
        raise ConfigError(
            f"expected continuous actions; {dataset.name} has {dataset.action_space.n} discrete ones, "
            "which are not supported yet"
        )
    values = asdict(config)
    return DecisionTransformerConfig(
        observation_size=dataset.observation_space.size,
        action_size=dataset.action_space.size,
        **{
            name: values[name]
            for name in (
                "max_timesteps",
                "return_scale",
                "share_positions",
                "share_projection",
                "timestep_placement",
            )
        },
    )


def _normalizer(dataset: TrajectoryDataset) -> Normalizer:
    statistics = dataset.statistics
    mean, std = statistics.observation_mean, statistics.observation_std
    return Normalizer(torch.from_numpy(mean.ravel().copy()), torch.from_numpy(std.ravel().copy()))


def _scaler(dataset: TrajectoryDataset) -> ActionScaler:
    space = dataset.action_space
    low, high = (
        torch.broadcast_to(torch.tensor(bound, dtype=torch.float32), (space.size,)).clone()
        for bound in (space.low, space.high)
    )
    if not (torch.isfinite(low).all() and torch.isfinite(high).all() and (low < high).all()):
        raise ConfigError(f"expected bounded actions; those of {dataset.name} lie in {space.low} … {space.high}")
    return ActionScaler(low, high)


def text_blocks(config: FinetuneConfig, backbone: GPT) -> BlockSampler | None:
    """Blocks of the co-training corpus in the backbone's own vocabulary; None without co-training."""
    if config.cotraining_corpus is None:
        return None
    name = config.architecture if config.backbone == "scratch" else config.backbone
    if perturbation := perturbation_of(name):
        name = perturbation.backbone
    tokenizer = tokenizer_of(str(CHIBIT) if name == "chibit" else name)
    if tokenizer.get_vocab_size() > backbone.config.vocab_size:
        raise ConfigError(
            f"expected a tokenizer of at most {backbone.config.vocab_size} words, as the backbone has; "
            f"found {tokenizer.get_vocab_size()} in {name}"
        )
    corpus = open_corpus(config.cotraining_corpus)
    text = pack_corpus(corpus, "whole", tokenizer)
    length = min(TEXT_BLOCK, backbone.config.num_positions)
    return BlockSampler(text, length, config.cotraining_batch_size, config.seed)


def optimizer_groups(config: FinetuneConfig, model: DecisionTransformer) -> list[dict[str, Any]]:
    """The trained parameters, sorted as the run's grouping says."""

    def trained(parameters: list[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
        return [parameter for parameter in parameters if parameter.requires_grad]

    assert config.parameter_groups is not None
    table = model.timestep_table
    return parameter_groups(
        config.parameter_groups,
        trained(list(model.backbone.parameters())),
        trained(model.own_parameters()),
        table if config.share_positions and table.requires_grad else None,
        learning_rate=config.learning_rate,
        backbone_learning_rate=config.backbone_learning_rate,
        weight_decay=config.weight_decay,
    )
