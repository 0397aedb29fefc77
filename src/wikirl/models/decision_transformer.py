"""The Decision Transformer: returns-to-go, observations and actions as tokens of a causal sequence model.

    return-to-go  observation  action   return-to-go  observation  action  ...
         R_0          s_0        a_0         R_1          s_1        a_1        (3K tokens for K timesteps)
                       └> a_0                              └> a_1               (actions are read at observations)

It takes raw environment units: the normaliser and the return scale are part of the model, so no caller can forget them.
It knows windows (`TrajectoryBatch`) and a `Backbone`; it does not know datasets, environments or losses, and actions.py
alone knows in what vectors and choices differ.

Source: Chen et al. 2021, section 3; Reid et al. 2022, section 3 for the shared tables.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wikirl.errors import ConfigError
from wikirl.kernels import layer_norm, linear, look_up
from wikirl.models.actions import ActionCodec
from wikirl.models.sequence_model import Backbone
from wikirl.types import TrajectoryBatch

TimestepPlacement = Literal["before_norm", "after_norm"]
Freeze = Literal["none", "blocks", "all_but_norms_and_projections"]
# Where actions are read: at the second token of each step.
OBSERVATIONS, LAST_OBSERVATION = slice(1, None, 3), slice(-2, -1)


@dataclass(frozen=True)
class DecisionTransformerConfig:
    """How trajectories become tokens and tokens become actions.

    Attributes:
        observation_size: Coordinates of an observation, flattened.
        action_size: Coordinates of an action, or how many choices there are.
        max_timesteps: Longest episode; rows of the timestep table.
        return_scale: Returns-to-go are divided by this before they are embedded.
        share_positions: Use the backbone's position table as timestep table, tiled if the horizon is longer.
        share_projection: Read actions with the transposed action embedding, without bias.
        timestep_placement: Add the timestep embedding before the layer norm (Decision Transformer) or after it
            (Wiki-RL's released code).
    """

    observation_size: int
    action_size: int
    max_timesteps: int
    return_scale: float = 1.0
    share_positions: bool = False
    share_projection: bool = False
    timestep_placement: TimestepPlacement = "before_norm"


@dataclass(frozen=True)
class Prediction:
    """What the model makes of a batch of windows.

    Attributes:
        actions: Predicted action of every step, in environment units and within bounds; of choices the logits of all.
        token_embeddings: Input embeddings of all tokens after the layer norm; what alignment losses look at. Contains
            the timestep only if it is added before the norm.
    """

    actions: Float[Tensor, "B K A"]
    token_embeddings: Float[Tensor, "B L D"]


class Normalizer(nn.Module):
    """Standardises raw observations with statistics that are saved with the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, "O"], std: Float[Tensor, "O"]) -> None:
        """Keep the statistics; 1e-6 is added to `std` once, as the released code does (facts Q18)."""
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std + 1e-6)

    def forward(self, observations: Float[Tensor, "*R B K O"]) -> Float[Tensor, "*R B K O"]:
        """Zero mean, unit deviation."""
        return (observations - self.mean) / self.std


class DecisionTransformer(nn.Module):
    """Predicts the action of every step of a window from what came before it."""

    def __init__(
        self, config: DecisionTransformerConfig, backbone: Backbone, normalizer: Normalizer, codec: ActionCodec
    ) -> None:
        """Build fresh projections around `backbone`, whose position table is extended in place if it is shared.

        Args:
            config: Sizes and options.
            backbone: The sequence model; becomes part of this one.
            normalizer: Statistics of the observations.
            codec: What actions are.

        Raises:
            ConfigError: positions are to be shared but the backbone has none, an unknown placement, or actions of
                another size.
        """
        super().__init__()
        if config.timestep_placement not in get_args(TimestepPlacement):
            raise ConfigError(
                f"expected timestep_placement before_norm or after_norm; found {config.timestep_placement!r}"
            )
        if codec.size != config.action_size:
            raise ConfigError(f"expected actions of size {config.action_size}; found {codec.size}")
        width = backbone.hidden_size
        self.config, self.backbone = config, backbone
        self.normalizer = normalizer
        self.scaler = codec  # under the name that saved policies know its bounds by
        self.embed_return = nn.Linear(1, width)
        self.embed_observation = nn.Linear(config.observation_size, width)
        self.embed_action = codec.make_embedding(width)
        if config.share_positions:
            if backbone.position_table is None:
                raise ConfigError(
                    "expected a backbone with a position table to share as timestep table; this one has none"
                )
            backbone.extend_positions(config.max_timesteps)
        self.embed_timestep = None if config.share_positions else nn.Embedding(config.max_timesteps, width)
        self.embed_norm = nn.LayerNorm(width)
        self.predict_action = None if config.share_projection else nn.Linear(width, config.action_size)

    @property
    def timestep_table(self) -> nn.Parameter:
        """The table `[T,D]` timesteps are looked up in."""
        table = self.backbone.position_table if self.embed_timestep is None else self.embed_timestep.weight
        assert isinstance(table, nn.Parameter)  # the constructor saw to it
        return table

    @property
    def num_runs(self) -> int | None:
        """Models stacked in this one (stacking.py), whose rows of a batch follow each other; None for a plain one."""
        return len(self.embed_norm.weight) if self.embed_norm.weight.ndim == 2 else None

    def embed(self, batch: TrajectoryBatch) -> tuple[Float[Tensor, "*R B L D"], Float[Tensor, "*R B L D"]]:
        """Tokens in the order R, s, a of each step: after the layer norm, and as they enter the backbone."""
        observations, actions, returns_to_go, timesteps = (
            self.by_run(value)
            for value in (batch.observations.flatten(2), batch.actions, batch.returns_to_go, batch.timesteps)
        )
        parts = (
            (self.embed_return, returns_to_go / self.config.return_scale),
            (self.embed_observation, self.normalizer(observations.float())),
        )
        # In float32: these products are small, and what follows adds float32 to them.
        with torch.autocast(batch.mask.device.type, enabled=False):
            tokens = [linear(value, layer.weight, layer.bias) for layer, value in parts]
            embedded = torch.stack([*tokens, self.scaler.embed(actions, self.embed_action)], dim=-2)
        time = look_up(self.timestep_table, timesteps)[..., None, :]
        match self.config.timestep_placement:
            case "before_norm":
                normed = layer_norm(embedded + time, self.embed_norm)
                entering = normed
            case "after_norm":
                normed = layer_norm(embedded, self.embed_norm)
                entering = normed + time
        return normed.flatten(-3, -2), entering.flatten(-3, -2)

    def forward(self, batch: TrajectoryBatch) -> Prediction:
        """Predict the action of every step from the tokens up to its observation."""
        normed, entering = self.embed(batch)
        hidden = self.backbone(entering, self.by_run(batch.mask.repeat_interleave(3, dim=1)), OBSERVATIONS)
        return Prediction(self.read_actions(hidden), normed.flatten(0, -3))

    def next_action(self, window: TrajectoryBatch) -> Float[Tensor, "B A"]:
        """The prediction for the last step of windows without padding: `forward(window).actions[:, -1]` alone.

        Nothing sees the last token, the action not yet taken. It stays in, because products with rows of a multiple of
        four are the faster for it (docs/log.md).
        """
        _, entering = self.embed(window)
        return self.read_actions(self.backbone(entering, read=LAST_OBSERVATION))[:, 0]

    def read_actions(self, hidden: Float[Tensor, "*R B K D"]) -> Float[Tensor, "N K A"]:
        """Predictions from the hidden states at observation tokens."""
        if self.predict_action is None:
            outputs = linear(hidden, self.scaler.shared_head(self.embed_action), None)
        else:
            outputs = linear(hidden, self.predict_action.weight, self.predict_action.bias)
        return self.scaler.read(outputs).flatten(0, -3)

    def by_run(self, rows: Tensor) -> Tensor:
        """The rows of a batch, `[R,B,…]` if models are stacked."""
        return rows if self.num_runs is None else rows.unflatten(0, (self.num_runs, -1))

    def own_parameters(self) -> list[nn.Parameter]:
        """All parameters that do not belong to the backbone."""
        theirs = {id(parameter) for parameter in self.backbone.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in theirs]

    def freeze(self, what: Freeze) -> None:
        """Exclude parameters from training.

        `blocks`: attention, feed-forward and layer norms of every block (the released `--frozen`, facts Q12).
        `all_but_norms_and_projections`: everything of the backbone except layer norms; the projections around it and a
        timestep table of its own stay trained (Lu et al. 2021).
        """
        match what:
            case "none":
                frozen: list[nn.Parameter] = []
            case "blocks":
                frozen = list(self.backbone.blocks.parameters())
            case "all_but_norms_and_projections":
                frozen = self.backbone.all_but_norms()
        for parameter in frozen:
            parameter.requires_grad_(False)
