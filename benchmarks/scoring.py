"""Scoring speed against d3rlpy's one-environment loop, side by side in one process.

    .venv-extras/bin/python benchmarks/scoring.py [--episodes 100] [--peer-episodes 4] [--rounds 3]

Both act with an untrained Decision Transformer of 3 layers × 128 × 1 head and K = 20 in Hopper-v5 with early
termination switched off, so that every episode has 1,000 steps and both do the same work. d3rlpy plays one environment
at a time as its own evaluator does; ours plays all episodes in lockstep. Rounds alternate; the ratio is of the medians
per step. `make test-extras` makes the environment.
"""

import argparse
import json
import statistics
import time

import d3rlpy
import gymnasium
import numpy as np
import torch

from wikirl.evaluation.environments import Environment
from wikirl.evaluation.rollout import rollout
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.decision_transformer import ActionScaler, DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.types import Space

TASK = "HopperThatGoesOn-v0"
STEPS, CONTEXT_LENGTH = 1000, 20


def our_policy() -> DecisionTransformerPolicy:
    config = DecisionTransformerConfig(observation_size=11, action_size=3, max_timesteps=STEPS, return_scale=1000.0)
    scaler = ActionScaler(-torch.ones(3), torch.ones(3))
    model = DecisionTransformer(config, GPT(GPTConfig()), Normalizer(torch.zeros(11), torch.ones(11)), scaler)
    spaces = Space((11,), "float64", -np.inf, np.inf), Space((3,), "float32", -1.0, 1.0)
    return DecisionTransformerPolicy(model.eval(), *spaces, context_length=CONTEXT_LENGTH, target_return=3600.0)


def our_seconds_per_step(policy: DecisionTransformerPolicy, num_episodes: int, seed: int) -> float:
    episodes = rollout(policy, TASK, num_episodes=num_episodes, seed=seed)
    return float(episodes.wall_seconds / episodes.lengths.sum())


def peer_actor(environment: Environment) -> d3rlpy.algos.StatefulTransformerWrapper:
    config = d3rlpy.algos.DecisionTransformerConfig(
        context_size=CONTEXT_LENGTH,
        num_heads=1,
        num_layers=3,
        max_timestep=STEPS,
        encoder_factory=d3rlpy.models.VectorEncoderFactory([128], exclude_last_activation=True),
    )
    algorithm = config.create(device=False)
    algorithm.build_with_env(environment)
    return algorithm.as_stateful_wrapper(target_return=3600.0)


def peer_seconds_per_step(
    actor: d3rlpy.algos.StatefulTransformerWrapper,
    environment: Environment,
    num_episodes: int,
    seed: int,
) -> float:
    steps, started = 0, time.perf_counter()
    for episode in range(num_episodes):
        actor.reset()
        observation, reward, ended = environment.reset(seed=seed + episode)[0], np.float64(0), False
        while not ended:
            action = actor.predict(observation, float(reward))
            observation, earned, terminated, truncated, _ = environment.step(action)
            reward, ended, steps = np.float64(earned), terminated or truncated, steps + 1
    return (time.perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description="Scoring speed against d3rlpy's one-environment loop.")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--peer-episodes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num-threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.num_threads)
    gymnasium.register(
        TASK,
        "gymnasium.envs.mujoco.hopper_v5:HopperEnv",
        max_episode_steps=STEPS,
        kwargs={"terminate_when_unhealthy": False},
    )
    environment = gymnasium.make(TASK)
    policy, actor = our_policy(), peer_actor(environment)
    ours, peers = [], []
    for seed in range(options.rounds):
        ours.append(our_seconds_per_step(policy, options.episodes, seed))
        peers.append(peer_seconds_per_step(actor, environment, options.peer_episodes, seed))
    hundred = 100 * STEPS
    result = {
        "ours_ms_per_step": [round(1e3 * value, 4) for value in ours],
        "d3rlpy_ms_per_step": [round(1e3 * value, 4) for value in peers],
        "ours_seconds_for_100_episodes": round(hundred * statistics.median(ours), 1),
        "d3rlpy_seconds_for_100_episodes": round(hundred * statistics.median(peers), 1),
        "ratio": round(statistics.median(peers) / statistics.median(ours), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
