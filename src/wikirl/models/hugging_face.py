"""Causal decoders of Hugging Face's library as backbones: their own forward between our embeddings and heads.

Everything but the GPT-2 family, which has a leaner forward in gpt.py. This file knows what such models have in common
and deliberately no single one of them: causality hides padding once it stands behind the real tokens, so none has to be
told of masks or positions, and each counts its positions from the first real token.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from wikirl.errors import BackboneError
from wikirl.kernels import Dropout
from wikirl.models.sequence_model import EVERYTHING, Backbone

# It would draw over our own bars.
transformers_logging.disable_progress_bar()
# Its report on loaded weights would follow our own one-line error.
transformers_logging.set_verbosity_error()

# What its models raise for configurations and files that make no sense.
UNUSABLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError,
    SafetensorError, StrictDataclassError,
)  # fmt: skip
# How its models are built: never with code of the checkpoint's own.
SAFELY: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
# What the models call dropout on the output of a sublayer; attention's has "att" in its name.
RESIDUAL_DROPOUT = ("hidden_dropout", "resid_pdrop", "resid_dropout", "residual_dropout", "dropout")


class HuggingFaceBackbone(Backbone):
    """A decoder without its language-model head, of any architecture that runs from `inputs_embeds`."""

    def __init__(self, model: PreTrainedModel, embedding_dropout: float = 0.0) -> None:
        """Wrap a base model, which becomes part of this one; the input dropout is ours."""
        super().__init__()
        self.model = model
        self.drop = Dropout(embedding_dropout)
        words: Any = model.get_input_embeddings()
        self._width: int = words.embedding_dim

    @classmethod
    def from_config(cls, config: PreTrainedConfig, embedding_dropout: float = 0.0) -> "HuggingFaceBackbone":
        """Fresh weights, drawn from the global PyTorch generator as the model itself does."""
        return cls(AutoModel.from_config(copy.deepcopy(config), **SAFELY), embedding_dropout)

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> "HuggingFaceBackbone":
        """The inverse of `to_json`, with fresh weights.

        Raises:
            BackboneError: the description makes no sense.
        """
        try:
            with TemporaryDirectory() as folder:
                (Path(folder) / "config.json").write_text(json.dumps(description["hugging_face"]))
                config = read_config(folder)
            backbone = cls.from_config(config, description["embedding_dropout"])
        except UNUSABLE as error:
            raise BackboneError(f"expected the configuration of a decoder; found: {first_line(error)}") from error
        backbone.drop_tables(words=not description["words"], positions=False)
        return backbone

    def to_json(self) -> dict[str, Any]:
        """The model's configuration in full, and what we keep beside it."""
        config = json.loads(self.model.config.to_json_string(use_diff=False))
        config.pop("_name_or_path", None)  # where it lay, which is nobody's business
        return {
            "hugging_face": config,
            "words": self.word_table is not None,
            "embedding_dropout": self.drop.probability,
        }

    @property
    def hidden_size(self) -> int:
        """Width of the word table, which is what goes in, and comes out (`as_backbone` sees to it)."""
        return self._width

    @property
    def max_length(self) -> int | None:
        """What the configuration says, if it says anything."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def word_table(self) -> Float[Tensor, "V D"] | None:
        """Word embeddings, before the scale that some models multiply them by."""
        words = self.model.get_input_embeddings()
        return words.weight if isinstance(words, nn.Embedding) else None

    @property
    def position_table(self) -> None:
        """None: whatever positions there are, `forward` adds them."""
        return None

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's layers, its outermost list."""
        return next(module for module in self.model.modules() if isinstance(module, nn.ModuleList))

    def forward(
        self,
        embeddings: Float[Tensor, "B L D"],
        mask: Bool[Tensor, "B L"] | None = None,
        read: slice = EVERYTHING,
    ) -> Float[Tensor, "B Q D"]:
        """As `Backbone.forward`; the model adds its own positions, counted from the first real token of a row."""
        if (keep := self.drop.mask(embeddings.shape, embeddings.device)) is not None:
            embeddings = embeddings * keep
        if mask is None:
            return self._run(embeddings)[:, read]
        order = (~mask).int().argsort(dim=1, stable=True)  # real tokens first
        hidden = self._run(embeddings.take_along_dim(order[..., None], dim=1))
        return hidden.take_along_dim(order.argsort(dim=1)[:, read, None], dim=1)

    def _run(self, embeddings: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        with _drawing_from(self.drop.generators[0] if self.training else None):
            output = self.model(inputs_embeds=embeddings, use_cache=False)
        hidden: Tensor = output.last_hidden_state
        return hidden.to(embeddings.dtype)

    def embed_tokens(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """Word embeddings, scaled if the model scales them; `forward` adds the positions."""
        if self.word_table is None:
            raise TypeError("this model has no word table")
        words: Tensor = self.model.get_input_embeddings()(ids)
        return words

    def drop_tables(self, *, words: bool, positions: bool) -> None:
        """Forget the word table; positions are part of the forward and stay."""
        if words:
            self.model.set_input_embeddings(nn.Identity())

    def extend_positions(self, num_positions: int) -> None:
        """There is no table to extend."""
        raise TypeError("this model has no position table")

    def with_dropout(self, *, embedding: float, attention: float, residual: float) -> "HuggingFaceBackbone":
        """The same weights; of the rates that the configuration knows, those of other places become 0."""
        config = copy.deepcopy(self.model.config)
        for name, value in config.to_dict().items():
            if "drop" in name and isinstance(value, int | float) and not isinstance(value, bool):
                rate = attention if "att" in name else residual if name in RESIDUAL_DROPOUT else 0.0
                setattr(config, name, rate)
        other = self._like(config, embedding)
        other.load_state_dict(self.state_dict())
        return other

    def fresh(self) -> "HuggingFaceBackbone":
        """The same architecture, weights as `from_config` draws them."""
        return self._like(self.model.config, self.drop.probability)

    def _like(self, config: PreTrainedConfig, embedding_dropout: float) -> "HuggingFaceBackbone":
        other = self.from_config(config, embedding_dropout)
        other.drop_tables(words=self.word_table is None, positions=False)
        return other


@contextmanager
def _drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let PyTorch's global generator stand in for another one: dropout inside a foreign model knows no other.

    Both have what is theirs afterwards. So a run's own generator holds all it takes to go on to the same bits.
    """
    if generator is None:
        yield
        return
    device = generator.device
    common = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index]
    before = common.get_state()
    common.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(common.get_state())
        common.set_state(before)


def read_config(place: Path | str) -> PreTrainedConfig:
    """A configuration, without the attention that it may ask for: sdpa where the model has it, else eager."""
    config: PreTrainedConfig = AutoConfig.from_pretrained(place, trust_remote_code=False)
    config._attn_implementation = None  # it could name a kernel on the hub, which is code
    return config


def first_line(error: BaseException) -> str:
    """What an error says, without its details."""
    return str(error).strip().split("\n")[0]


def require_decoder(config: PreTrainedConfig, name: str) -> None:
    """Refuse what is no decoder of text alone, before its weights are read.

    Raises:
        BackboneError: an encoder, a model of several parts, or quantized weights.
    """
    wanted = (
        "expected a causal decoder of text as backbone (GPT-2, GPT-NeoX, OPT, Llama, Qwen, Mistral, Gemma and others)"
    )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise BackboneError(f"{wanted}; {name!r} is of type {config.model_type!r}")
    if config.get_text_config() is not config:
        raise BackboneError(f"{wanted}; {name!r}, of type {config.model_type!r}, takes more than text")
    if getattr(config, "quantization_config", None) is not None:
        raise BackboneError(f"expected a backbone with plain weights; those of {name!r} are quantized")


def as_backbone(model: PreTrainedModel, name: str) -> HuggingFaceBackbone:
    """Wrap a loaded base model that is built like a decoder and behaves like one.

    Raises:
        BackboneError: no word table or list of blocks, it does not run from embeddings alone, it changes their width,
            or a later token changes what comes out at an earlier one.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    words = model.get_input_embeddings()
    depth = getattr(model.config, "num_hidden_layers", None)
    if not isinstance(words, nn.Embedding) or not lists or not 0 < len(lists[0]) == depth:
        raise BackboneError(
            f"expected a decoder with a word table and one list of blocks; {name!r}, of type "
            f"{model.config.model_type!r}, is built otherwise"
        )
    backbone = HuggingFaceBackbone(model)
    _require_causal(backbone, name)
    return backbone


@torch.no_grad()
def _require_causal(backbone: HuggingFaceBackbone, name: str) -> None:
    model = backbone.eval().model
    words = model.get_input_embeddings()
    model.set_input_embeddings(nn.Identity())  # as if it had been dropped
    tokens = torch.linspace(-3, 3, 4 * backbone.hidden_size).sin().view(1, 4, -1)
    changed = torch.cat([tokens[:, :-1], -2 * tokens[:, -1:]], dim=1)
    try:
        one, other = (model(inputs_embeds=some, use_cache=False).last_hidden_state for some in (tokens, changed))
    except UNUSABLE as error:
        raise BackboneError(
            f"expected a decoder that runs from inputs_embeds alone; {name!r} does not: {first_line(error)}"
        ) from error
    model.set_input_embeddings(words)
    if one.shape != tokens.shape:
        raise BackboneError(
            f"expected hidden states as wide as the word table ({backbone.hidden_size}); those of {name!r} are "
            f"{one.shape[-1]} wide"
        )
    if not torch.allclose(one[:, :-1], other[:, :-1], rtol=1e-4, atol=1e-5):
        raise BackboneError(
            f"expected a causal decoder as backbone; in {name!r}, of type {model.config.model_type!r}, later "
            "tokens change what comes out at earlier ones"
        )
