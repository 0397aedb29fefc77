"""From a fine-tuning configuration to its parts: backbone, Decision Transformer, parameter groups, co-training text."""

from dataclasses import asdict
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from wikirl.errors import ConfigError
from wikirl.models.actions import action_codec
from wikirl.models.backbone import backbone_folder, load_backbone
from wikirl.models.decision_transformer import DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.models.perturbed import perturbation_of
from wikirl.models.sequence_model import Backbone
from wikirl.models.word_clusters import word_clusters
from wikirl.recipes.language_probe import LanguageProbe
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reproducibility import seed_everything
from wikirl.runs import cache_folder
from wikirl.text.corpora import open_corpus
from wikirl.text.packing import BlockSampler, pack_corpus
from wikirl.text.tokenizers import tokenizer_of
from wikirl.training.optimizer import parameter_groups
from wikirl.trajectories.dataset import TrajectoryDataset

TEXT_BLOCK = 1024


def make_backbone(config: FinetuneConfig) -> Backbone:
    """The sequence model to start from, under the run's dropout rates.

    `scratch` takes only the architecture of what it is compared with, its tables included, and draws its weights from
    the seed.

    Raises:
        BackboneError: it cannot be loaded.
        ConfigError: it lacks what the run asks of it.
    """
    seed_everything(config.seed)
    if config.backbone == "scratch":
        # DT's own: 3 layers, 1 head, width 128, ReLU, 1024 positions, no words (facts 2.1, Q19)
        backbone = GPT(GPTConfig()) if config.architecture == "dt" else load_backbone(config.architecture).fresh()
    else:
        backbone = load_backbone(config.backbone, config.seed)
    _require_what_is_asked(config, backbone)
    assert config.residual_dropout is not None
    return backbone.with_dropout(
        embedding=config.embedding_dropout,
        attention=config.attention_dropout,
        residual=config.residual_dropout,
    )


def _require_what_is_asked(config: FinetuneConfig, backbone: Backbone) -> None:
    name = starting_point(config)
    if config.share_positions and backbone.position_table is None:
        raise ConfigError(
            f"expected a backbone with a position table to share as timestep table; {name} has none; "
            "use --no-share-positions"
        )
    if config.cotraining_corpus is not None and not isinstance(backbone, GPT):
        raise ConfigError(
            f"expected a backbone of the GPT-2 family to go on modelling text; {name} is of another; "
            "leave --cotraining-corpus out"
        )
    if backbone.max_length is not None and 3 * config.context_length > backbone.max_length:
        raise ConfigError(
            f"expected windows of at most {backbone.max_length} tokens, as {name} takes; found "
            f"{3 * config.context_length}, three for each step; use --context-length {backbone.max_length // 3} or less"
        )


def starting_point(config: FinetuneConfig) -> str:
    """Whose architecture the run has."""
    return config.architecture if config.backbone == "scratch" else config.backbone


def make_model(
    config: FinetuneConfig, dataset: TrajectoryDataset, backbone: Backbone
) -> tuple[DecisionTransformer, Tensor | None]:
    """The Decision Transformer around a backbone, and the cluster centres it is aligned to (None without alignment).

    The new layers are drawn under the run's seed whatever the backbone, so that two starting points differ in nothing
    else.
    """
    centres = None
    if config.alignment != "none":
        if backbone.word_table is None:
            raise ConfigError("alignment needs a backbone with word embeddings; found none; use --alignment none")
        clusters = min(config.num_clusters, len(backbone.word_table))
        centres = word_clusters(backbone.word_table, clusters, cache=cache_folder())
    backbone.drop_tables(
        words=config.cotraining_corpus is None,
        positions=not config.share_positions and config.cotraining_corpus is None,
    )
    seed_everything(config.seed)
    codec = action_codec(dataset.action_space)
    model = DecisionTransformer(_options(config, dataset, codec.size), backbone, normalizer_of(dataset), codec)
    model.freeze(config.freeze)
    return model, centres


def _options(config: FinetuneConfig, dataset: TrajectoryDataset, action_size: int) -> DecisionTransformerConfig:
    values = asdict(config)
    return DecisionTransformerConfig(
        observation_size=dataset.observation_space.size,
        action_size=action_size,
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


def normalizer_of(dataset: TrajectoryDataset) -> Normalizer:
    """What standardises the observations of a dataset."""
    statistics = dataset.statistics
    mean, std = statistics.observation_mean, statistics.observation_std
    return Normalizer(torch.from_numpy(mean.ravel().copy()), torch.from_numpy(std.ravel().copy()))


def text_blocks(config: FinetuneConfig, backbone: Backbone) -> BlockSampler | None:
    """Blocks of the co-training corpus in the backbone's own vocabulary; None without co-training."""
    if config.cotraining_corpus is None:
        return None
    assert isinstance(backbone, GPT)  # make_backbone saw to it
    text = pack_corpus(open_corpus(config.cotraining_corpus), "whole", own_tokenizer(config, backbone))
    length = min(TEXT_BLOCK, backbone.config.num_positions)
    return BlockSampler(text, length, config.cotraining_batch_size, config.seed)


def language_probe(config: FinetuneConfig, backbone: Backbone) -> LanguageProbe | None:
    """What measures perplexity before and after; None if it is not asked for.

    Raises:
        ConfigError: the backbone cannot read.
    """
    if config.language_text is None:
        return None
    if not isinstance(backbone, GPT) or backbone.wte is None or backbone.wpe is None:
        raise ConfigError(
            f"expected a backbone of the GPT-2 family with words and positions to measure perplexity; "
            f"{starting_point(config)} is another; leave --language-text out"
        )
    return LanguageProbe(config.language_text, own_tokenizer(config, backbone), backbone)


def own_tokenizer(config: FinetuneConfig, backbone: GPT) -> Tokenizer:
    """The tokenizer that belongs to the backbone.

    Raises:
        ConfigError: it has more words than the backbone.
        CorpusError: there is none.
    """
    name = starting_point(config)
    if perturbation := perturbation_of(name):
        name = perturbation.backbone
    tokenizer = tokenizer_of(str(backbone_folder(name)))
    if tokenizer.get_vocab_size() > backbone.config.vocab_size:
        raise ConfigError(
            f"expected a tokenizer of at most {backbone.config.vocab_size} words, as the backbone has; "
            f"found {tokenizer.get_vocab_size()} in {name}"
        )
    return tokenizer


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
