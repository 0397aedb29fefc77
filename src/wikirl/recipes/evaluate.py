"""`wikirl evaluate`: score a saved policy in its environment, or on held-out episodes where there is none."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from wikirl.errors import ConfigError, RunError
from wikirl.evaluation.environments import describe_environment
from wikirl.evaluation.parallel import sensible_num_processes
from wikirl.evaluation.protocol import stamp_protocol
from wikirl.evaluation.references import choose_reference
from wikirl.evaluation.scores import Evaluation
from wikirl.kernels import keep_freed_memory
from wikirl.models.bundle import AnyPolicy, load_any_policy
from wikirl.models.perceptron import PerceptronPolicy
from wikirl.recipes.held_out import held_out_errors, perceptron_errors, split
from wikirl.recipes.scoring import (
    check_fit,
    evaluation_entry,
    score,
    score_policy,
)
from wikirl.reproducibility import choose_device
from wikirl.runs import read_json, write_json
from wikirl.trajectories.sources import load_trajectories
from wikirl.trajectories.transforms import delayed_reward as delay
from wikirl.types import ActionSelection


def evaluate_run(  # noqa: PLR0913 - one argument for each flag
    folder: Path | str,
    *,
    environment: str | None = None,
    target_returns: Sequence[float] | None = None,
    num_episodes: int = 100,
    seed: int = 0,
    cached: bool = False,
    action_selection: ActionSelection | None = None,
    num_processes: int | None = None,
    reference: Sequence[float] | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Score the policy a run left behind and keep the result in its `evaluations/`.

    Args:
        folder: A run folder.
        environment: Gymnasium id; default: the run's own. Without either, the held-out action error is computed.
        target_returns: Returns to ask for; default: the run's. A baseline is not asked for one.
        num_episodes: Episodes per target.
        seed: Seed of the episodes.
        cached: Act with kept keys and values: faster, and another policy once the window is full. Some episodes are
            played exactly as well, to say what difference it makes.
        action_selection: How choices are made; default: as the run says.
        num_processes: How many processes share the episodes; default: as many as help.
        reference: Returns that a normalised score puts at 0 and 100; default: the run's, else the published ones, else
            the data's own.
        device: Where the policy runs.

    Raises:
        RunError: the folder is no finished run.
        ConfigError: the environment does not fit the policy, a count is not positive, the backbone does not act
            cached, or a way to choose is given for actions that are vectors.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise RunError(f"expected a run folder (config.json, policy/) at {folder}; found none; see wikirl finetune")
    config = read_json(folder / "config.json")
    if not (folder / "policy").is_dir():
        verb = config.get("kind", "finetune")
        raise RunError(
            f"expected a finished run at {folder}; it has no policy yet; run the same wikirl {verb} command again"
        )
    if num_processes is not None and num_processes < 1:
        raise ConfigError(f"expected num_processes of at least 1; found {num_processes}")
    keep_freed_memory()
    device = choose_device(device)
    policy = load_any_policy(folder / "policy", device)
    _set_up(policy, target_returns, cached, action_selection)
    environment = environment or config["environment"]
    if environment is None:
        return _keep(folder, "held-out", _held_out_result(policy, config))
    check_fit(describe_environment(environment), policy)
    targets = tuple(target_returns or config.get("target_returns") or (None,))
    scale = choose_reference(
        environment, given=reference or config.get("reference"), own=config.get("dataset_reference"),
        own_environment=config["dataset_environment"],
    )  # fmt: skip
    processes = num_processes or (sensible_num_processes(num_episodes) if device == "cpu" else 1)
    settings: dict[str, Any] = {
        "seed": seed, "step": config["num_steps"], "delayed_reward": config["delayed_reward"],
        "num_processes": processes, "reference": scale,
    }  # fmt: skip
    evaluations = _scored(policy, environment, targets, num_episodes=num_episodes, **settings)
    differences: list[dict[str, Any]] = [{} for _ in targets]
    if cached and not isinstance(policy, PerceptronPolicy):
        policy.cached = False
        few = min(num_episodes, max(num_episodes // 10, 10))
        exact = _scored(policy, environment, targets, num_episodes=few, **settings)
        differences = [_difference(fast, slow) for fast, slow in zip(evaluations, exact, strict=True)]
    entries = [
        evaluation_entry(evaluation) | difference
        | {"protocol": asdict(stamp_protocol(
            environment, checkpoints=("last",), target_return=evaluation.target_return, num_episodes=num_episodes,
            seeds=(seed,), delayed_reward=config["delayed_reward"], acting="cached" if cached else "exact",
            dataset_environment=config["dataset_environment"], action_selection=policy.action_selection,
            reference=scale,
        )), "returns": list(evaluation.returns), "lengths": list(evaluation.lengths)}
        for evaluation, difference in zip(evaluations, differences, strict=True)
    ]  # fmt: skip
    name = f"{environment}-{num_episodes}-episodes-seed-{seed}"
    name += "" if targets == (None,) else f"-targets-{'-'.join(f'{target:g}' for target in targets)}"
    name += f"-reference-{reference[0]:g}-{reference[1]:g}" if reference else ""
    name += "-sampled" if policy.action_selection == "sampled" else ""
    name = re.sub(r"[^\w.-]+", "_", name + ("-cached" if cached else ""))
    return _keep(folder, name, {"run": str(folder), "environment": environment, "evaluations": entries})


def _set_up(
    policy: AnyPolicy, target_returns: Sequence[float] | None, cached: bool, action_selection: ActionSelection | None
) -> None:
    """Have the policy act as the flags say.

    Raises:
        ConfigError: the policy cannot.
    """
    if not isinstance(policy, PerceptronPolicy):
        policy.cached = cached
        policy.action_selection = action_selection or policy.action_selection
        return
    asked = {
        "--target-return": target_returns is not None, "--cached": cached,
        f"--{action_selection}": action_selection not in (None, policy.action_selection),
    }  # fmt: skip
    if wrong := [flag for flag, given in asked.items() if given]:
        raise ConfigError(
            f"expected a Decision Transformer for {' and '.join(wrong)}; this run is a baseline, which looks at "
            "the observation alone and takes the best action; leave it out"
        )


def _scored(policy: AnyPolicy, environment: str, targets: Sequence[Any], **settings: Any) -> list[Evaluation]:
    if isinstance(policy, PerceptronPolicy):
        return [score_policy(policy, environment, target_return=None, **settings)]
    return score(policy, environment, targets, **settings)


def _held_out_result(policy: AnyPolicy, config: dict[str, Any]) -> dict[str, Any]:
    """The action error on the episodes that the run kept out of its training."""
    dataset = load_trajectories(config["dataset"])
    held_out = split(dataset, config["held_out_fraction"], config["seed"])[1]
    if held_out is None:
        raise ConfigError("expected an environment, or a run with held-out episodes; found neither; give --environment")
    held_out = delay(held_out) if config["delayed_reward"] else held_out
    if isinstance(policy, PerceptronPolicy):
        errors = perceptron_errors(policy, held_out)
    else:
        errors = held_out_errors(policy, held_out)
    return {
        "step": config["num_steps"],
        **errors,
        "num_episodes": held_out.num_episodes,
    }


def _difference(cached: Evaluation, exact: Evaluation) -> dict[str, Any]:
    """Mean return of cached minus exact acting over the first episodes, and the standard error of that mean."""
    differences = np.array(cached.returns[: len(exact.returns)]) - np.array(exact.returns)
    error = float(differences.std(ddof=1) / len(differences) ** 0.5) if len(differences) > 1 else None
    return {
        "cached_minus_exact_return": float(differences.mean()),
        "cached_minus_exact_error": error,
        "cached_minus_exact_episodes": len(differences),
    }


def _keep(folder: Path, name: str, result: dict[str, Any]) -> dict[str, Any]:
    (folder / "evaluations").mkdir(exist_ok=True)
    write_json(folder / "evaluations" / f"{name}.json", result)
    return result
