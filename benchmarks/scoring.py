"""Scoring of 100 Hopper episodes of 1,000 steps: ours in lockstep against d3rlpy's loop over one environment.

    .venv-extras/bin/python benchmarks/scoring.py [--rounds 3] [--num-threads 1] [--smoke]

Both act with an untrained Decision Transformer of 3 layers × 128 × 1 head and K = 20 in Hopper-v5 with early
termination switched off, so that every episode has 1,000 steps and both do the same work. d3rlpy plays one environment
at a time as its own evaluator does, few episodes, scaled up. The simulator alone, under random actions, is the floor.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from shapes import ACTION_SIZE, CONTEXT_LENGTH, DECISION_TRANSFORMER, MAX_TIMESTEPS, OBSERVATION_SIZE
from steps import d3rlpy_algorithm
from timing import Contender, Options, Timing, matrix_products, measure_with_floors, parse_options, table

from wikirl.evaluation.environments import Environment
from wikirl.evaluation.rollout import rollout
from wikirl.kernels import keep_freed_memory
from wikirl.models.acting import DecisionTransformerPolicy
from wikirl.models.actions import ActionScaler
from wikirl.models.decision_transformer import DecisionTransformer, DecisionTransformerConfig, Normalizer
from wikirl.models.gpt import GPT, GPTConfig
from wikirl.types import Space

TASK = "HopperThatGoesOn-v0"
NUM_EPISODES, PEER_EPISODES, TARGET_RETURN = 100, 3, 3600.0


def our_policy(*, cached: bool = False) -> DecisionTransformerPolicy:
    config = DecisionTransformerConfig(
        observation_size=OBSERVATION_SIZE, action_size=ACTION_SIZE, max_timesteps=MAX_TIMESTEPS, return_scale=1000.0
    )
    scaler = ActionScaler(-torch.ones(ACTION_SIZE), torch.ones(ACTION_SIZE))
    normalizer = Normalizer(torch.zeros(OBSERVATION_SIZE), torch.ones(OBSERVATION_SIZE))
    model = DecisionTransformer(config, GPT(GPTConfig()), normalizer, scaler)
    spaces = (
        Space((OBSERVATION_SIZE,), "float64", -np.inf, np.inf),
        Space((ACTION_SIZE,), "float32", -1.0, 1.0),
    )
    return DecisionTransformerPolicy(
        model.eval(), *spaces, context_length=CONTEXT_LENGTH, target_return=TARGET_RETURN, cached=cached
    )


def lockstep(policy: DecisionTransformerPolicy, num_episodes: int) -> Contender:
    """All episodes at once, as `wikirl evaluate` plays them."""
    return lambda: float(rollout(policy, TASK, num_episodes=num_episodes, seed=0).lengths.sum())


def one_by_one(environment: Environment, act: Callable[[int, Any, Any], Any], num_episodes: int) -> int:
    """Play episodes in a loop over one environment; `act` is told the step. Returns how many steps it took."""
    num_steps = 0
    for episode in range(num_episodes):
        observation, reward, ended, step = environment.reset(seed=episode)[0], 0.0, False, 0
        while not ended:
            observation, earned, terminated, truncated, _ = environment.step(act(step, observation, reward))
            reward, ended, step = float(earned), terminated or truncated, step + 1
        num_steps += step
    return num_steps


def d3rlpy_loop(environment: Environment, num_episodes: int) -> Contender:
    """Source: d3rlpy 2.8.0, `evaluate_transformer_with_environment`."""
    algorithm = d3rlpy_algorithm()
    algorithm.build_with_env(environment)
    actor = algorithm.as_stateful_wrapper(target_return=TARGET_RETURN)

    def act(step: int, observation: Any, reward: Any) -> Any:
        if step == 0:
            actor.reset()
        return actor.predict(observation, reward)

    return lambda: one_by_one(environment, act, num_episodes)


def simulator_alone(environment: Environment, num_episodes: int) -> Contender:
    """Random actions, drawn beforehand."""
    actions = np.random.default_rng(0).uniform(-1, 1, (MAX_TIMESTEPS, ACTION_SIZE)).astype(np.float32)
    return lambda: one_by_one(environment, lambda step, *_: actions[step], num_episodes)


def playing(options: Options) -> dict[str, Timing]:
    """Seconds an environment step."""
    steps = 30 if options.smoke else MAX_TIMESTEPS
    gymnasium.register(
        TASK,
        "gymnasium.envs.mujoco.hopper_v5:HopperEnv",
        max_episode_steps=steps,
        kwargs={"terminate_when_unhealthy": False},
    )
    keep_freed_memory()  # as `wikirl evaluate` does; d3rlpy gets it too
    environment = gymnasium.make(TASK)
    num_episodes, peer_episodes = (4, 1) if options.smoke else (NUM_EPISODES, PEER_EPISODES)
    contenders = {
        "ours, exact windows": lockstep(our_policy(), num_episodes),
        "ours, cached": lockstep(our_policy(cached=True), num_episodes),
        "d3rlpy": d3rlpy_loop(environment, peer_episodes),
        "simulator alone": simulator_alone(environment, 3 * peer_episodes),
    }
    width = DECISION_TRANSFORMER.hidden_size
    return measure_with_floors(
        contenders,
        matrix_products(32 * 3 * CONTEXT_LENGTH, width, 4 * width, smoke=options.smoke),
        DECISION_TRANSFORMER.action_gflop(),
        options,
        warm_up=False,
    )


def main() -> None:
    options = parse_options("Scoring of 100 Hopper episodes of 1,000 steps.")
    print(f"## Scoring\n\n{NUM_EPISODES} Hopper episodes × {MAX_TIMESTEPS} steps, K = {CONTEXT_LENGTH}, float32.\n")

    def hundred_episodes(seconds: float) -> float:
        return NUM_EPISODES * MAX_TIMESTEPS * seconds

    ours = ("ours, exact windows", "ours, cached")
    print(table(playing(options), options, unit="s", show=hundred_episodes, ours=ours))


if __name__ == "__main__":
    main()
