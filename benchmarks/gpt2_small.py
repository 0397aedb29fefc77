"""A training step in GPT-2-small's shape: ours against Hugging Face's DecisionTransformerModel.

    .venv-extras/bin/python benchmarks/gpt2_small.py [--rounds 3] [--num-threads 1] [--smoke]

12 layers × 768 × 12 heads, batch 8, K = 20, Hopper shapes, dropout 0.1. Needs 5 GB.
"""

from shapes import CONTEXT_LENGTH, GPT2_SMALL, Shape
from steps import hugging_face_step, our_step
from timing import Options, Timing, matrix_products, measure_with_floors, milliseconds, parse_options, repeated, table

BATCH_SIZE = 8
SMOKE = Shape(num_layers=2, num_heads=2, hidden_size=64, activation="gelu_new")


def steps(options: Options) -> dict[str, Timing]:
    """Seconds a training step."""
    shape = SMOKE if options.smoke else GPT2_SMALL
    contenders = {
        "ours float32": our_step("float32", BATCH_SIZE, shape=shape),
        "ours bfloat16": our_step("bfloat16", BATCH_SIZE, shape=shape),
        "Hugging Face, batch ready": hugging_face_step(BATCH_SIZE, shape),
    }
    return measure_with_floors(
        {name: repeated(step, 1) for name, step in contenders.items()},
        matrix_products(3 * CONTEXT_LENGTH * BATCH_SIZE, shape.hidden_size, 4 * shape.hidden_size, smoke=options.smoke),
        shape.step_gflop(BATCH_SIZE),
        options,
    )


def main() -> None:
    options = parse_options("A training step in GPT-2-small's shape.")
    print(f"## Training step, GPT-2 small\n\n12 × 768 × 12 heads, batch of {BATCH_SIZE} windows × {CONTEXT_LENGTH}.\n")
    ours = "ours float32", "ours bfloat16"
    print(table(steps(options), options, unit="ms a step", show=milliseconds, ours=ours))


if __name__ == "__main__":
    main()
