"""TD3+BC, CQL and IQL as d3rlpy computes them, on our data, batches and seeds.

d3rlpy gives networks, losses and updates (`algorithm.update`), and nothing else: steps are drawn, standardised and
marked as terminal here, and checkpoints are ours. The layers of its policy are those of our `Perceptron`, so that a
saved policy acts without d3rlpy. Settings are its defaults, besides what its author's reproductions of the papers set:
a third layer and a fixed weight in CQL, scaled rewards and a falling rate in IQL. All learn from standardised
observations, as TD3+BC does.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wikirl.errors import DivergedError, MissingExtraError
from wikirl.models.actions import ActionCodec, ActionScaler, action_codec
from wikirl.models.perceptron import Perceptron, PerceptronPolicy
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.building import normalizer_of
from wikirl.reproducibility import generator, seed_everything
from wikirl.runs import Checkpoint
from wikirl.training.optimizer import load_optimizer_tensors, optimizer_tensors
from wikirl.trajectories.dataset import TrajectoryDataset
from wikirl.trajectories.transitions import TransitionBatch, TransitionSampler

# Source: IQL, section 5.1: rewards times 1000 / (largest − smallest return).
IQL_RETURN_RANGE = 1000.0
# d3rlpy's 8000 steps between copies of the target network are meant for a million steps of Atari and more.
MAX_TARGET_INTERVAL, MIN_TARGET_INTERVAL, TARGET_COPIES = 8000, 100, 50


class D3rlpyLearner:
    """One of d3rlpy's algorithms as a `Learner`."""

    def __init__(self, config: BaselineConfig, dataset: TrajectoryDataset, device: str) -> None:
        """Build networks and optimizers under the run's seed.

        Raises:
            MissingExtraError: d3rlpy is not installed.
            DatasetError: no step of the data has a known successor.
        """
        d3rlpy = import_d3rlpy()
        self._config, self._batch_of = config, d3rlpy.dataset.TransitionMiniBatch
        self._sampler = TransitionSampler(
            dataset, generator(config.seed, "batches"), delayed_reward=config.delayed_reward
        )
        codec = action_codec(dataset.action_space)
        seed_everything(config.seed)  # its noise goes on from here, so checkpoints keep PyTorch's own generator
        self._algorithm = _algorithm(d3rlpy, config, dataset).create(device=device)
        self._algorithm.create_impl((dataset.observation_space.size,), codec.size)
        self._modules = self._algorithm.impl.modules
        self._scale = _reward_scale(config, dataset)
        self._standardise = _Standardise(dataset, codec)
        choices = dataset.action_space.is_discrete
        acting = self._modules.q_funcs if choices else self._modules.policy
        layers = [layer for layer in acting.modules() if isinstance(layer, nn.Linear)]
        assert config.num_layers is not None
        model = Perceptron(layers[: config.num_layers + 1], normalizer_of(dataset), codec).to(device)
        self.policy = PerceptronPolicy(
            model, dataset.observation_space, dataset.action_space, predicts_values=choices
        )  # fmt: skip

    def steps(self, first_step: int) -> Iterator[dict[str, Any]]:
        """As `Learner`.

        Raises:
            DivergedError: a loss is no longer finite.
        """
        for step in range(first_step, self._config.num_steps + 1):
            if self._config.algorithm == "iql":
                self._lower_the_rate(step)
            losses = self._algorithm.update(self._theirs(self._sampler.sample(self._config.batch_size)))
            if not all(math.isfinite(value) for value in losses.values()):
                raise DivergedError(f"the losses are {losses} at step {step}; try a smaller learning rate")
            yield {"step": step, "loss": losses.get("critic_loss", losses.get("loss")), **losses}

    def _theirs(self, batch: TransitionBatch) -> Any:
        """A batch as `TransitionMiniBatch`. Next actions are zeros, for none of these algorithms looks at them."""
        actions = self._standardise.actions(batch.actions)
        return self._batch_of(
            observations=self._standardise.observations(batch.observations),
            actions=actions,
            rewards=(batch.rewards * self._scale)[:, None],
            next_observations=self._standardise.observations(batch.next_observations),
            next_actions=np.zeros_like(actions),
            terminals=batch.terminated[:, None].astype(np.float32),
            intervals=np.ones((len(actions), 1), dtype=np.float32),
            transitions=(),
        )

    def _lower_the_rate(self, step: int) -> None:
        """IQL's policy learns at a rate that falls to zero along a cosine over the run."""
        assert self._config.learning_rate is not None
        factor = (1 + math.cos(math.pi * (step - 1) / self._config.num_steps)) / 2
        for group in self._modules.actor_optim.optim.param_groups:
            group["lr"] = self._config.learning_rate * factor

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """As `Learner`."""
        networks = {
            f"{part}.{name}": value
            for part, network in self._networks().items()
            for name, value in network.state_dict().items()
        }
        moments = {
            f"{part}.{name}": value
            for part, optimizer in self._optimizers().items()
            for name, value in optimizer_tensors(optimizer).items()
        }
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        return {"model": networks, "optimizer": moments, "random": random}

    def state(self) -> dict[str, Any]:
        """As `Learner`."""
        return {"sampler": self._sampler.state()}

    def load(self, saved: Checkpoint) -> None:
        """As `Learner`."""
        networks, moments, random = (saved.tensors(name) for name in ("model", "optimizer", "random"))
        for part, network in self._networks().items():
            network.load_state_dict(_under(part, networks))
        for part, optimizer in self._optimizers().items():
            load_optimizer_tensors(optimizer, _under(part, moments))
        self._sampler.load_state(saved.state["sampler"])
        self._algorithm.set_grad_step(saved.step)
        torch.set_rng_state(random["cpu"])
        if torch.cuda.is_available() and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"])

    def _networks(self) -> dict[str, nn.Module]:
        parts = {item.name: getattr(self._modules, item.name) for item in fields(self._modules)}
        return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        parts = {item.name: getattr(self._modules, item.name) for item in fields(self._modules)}
        return {name: part.optim for name, part in parts.items() if hasattr(part, "optim")}


def _under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class _Standardise:
    """Observations to zero mean and unit deviation, actions to −1 … 1, as arrays: what a model does inside."""

    def __init__(self, dataset: TrajectoryDataset, codec: ActionCodec) -> None:
        normalizer = normalizer_of(dataset)
        self._mean, self._std = normalizer.mean.numpy(), normalizer.std.numpy()
        self._codec = codec

    def observations(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        flat = values.reshape(len(values), -1).astype(np.float32)
        return np.asarray((flat - self._mean) / self._std)

    def actions(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if not isinstance(self._codec, ActionScaler):
            return values[:, None].astype(np.float32)
        scaled = (values - self._codec.midpoint.numpy()) / self._codec.half_range.numpy()
        return np.asarray(scaled, dtype=np.float32)


def _algorithm(d3rlpy: Any, config: BaselineConfig, dataset: TrajectoryDataset) -> Any:
    """The configuration of an algorithm, not built yet.

    Source: d3rlpy 2.8.0 and its reproductions/offline.
    """
    assert config.num_layers is not None
    algos, rate, batch_size = d3rlpy.algos, config.learning_rate, config.batch_size
    networks = d3rlpy.models.VectorEncoderFactory([config.hidden_size] * config.num_layers)
    if dataset.action_space.is_discrete:
        copies = max(config.num_steps // TARGET_COPIES, MIN_TARGET_INTERVAL)
        return algos.DiscreteCQLConfig(
            batch_size=batch_size, learning_rate=rate, encoder_factory=networks,
            target_update_interval=min(copies, MAX_TARGET_INTERVAL),
        )  # fmt: skip
    factories = {"actor_encoder_factory": networks, "critic_encoder_factory": networks}
    rates = {"actor_learning_rate": rate, "critic_learning_rate": rate}
    match config.algorithm:
        case "td3+bc":
            return algos.TD3PlusBCConfig(batch_size=batch_size, **rates, **factories)
        case "iql":
            return algos.IQLConfig(batch_size=batch_size, value_encoder_factory=networks, **rates, **factories)
    rates |= {"temp_learning_rate": rate, "alpha_learning_rate": 0.0}
    if rate is None:
        rates |= {"actor_learning_rate": 1e-4, "critic_learning_rate": 3e-4, "temp_learning_rate": 1e-4}
    return algos.CQLConfig(batch_size=batch_size, **rates, **factories)


def _reward_scale(config: BaselineConfig, dataset: TrajectoryDataset) -> np.float32:
    spread = dataset.statistics.return_max - dataset.statistics.return_min
    return np.float32(IQL_RETURN_RANGE / spread if config.algorithm == "iql" and spread > 0 else 1.0)


def import_d3rlpy() -> Any:
    """d3rlpy, without the notice of old `gym`, which it imports, and without its change of PyTorch's precision.

    Raises:
        MissingExtraError: it is not installed.
    """
    precision = torch.get_float32_matmul_precision()
    try:
        import gym_notices.notices as gym
    except ImportError as error:  # what d3rlpy needs; absent with it
        raise _missing(error) from error
    said = dict(gym.notices)
    gym.notices.clear()
    try:
        with redirect_stdout(sys.stderr):  # its log lines go to standard output
            import d3rlpy
    except ImportError as error:
        raise _missing(error) from error
    finally:
        gym.notices.update(said)
        torch.set_float32_matmul_precision(precision)
    return d3rlpy


def _missing(error: ImportError) -> MissingExtraError:
    return MissingExtraError(
        f"expected d3rlpy for --algorithm td3+bc, cql and iql; it is not installed ({error}); "
        "pip install 'wikirl[baselines]'"
    )
