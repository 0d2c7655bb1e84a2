"""How many inputs, and with which dice."""

import random
from collections.abc import Iterator

import pytest

BATCH = 250  # inputs that share dice
INPUTS, SAMPLE = 100_000, 3_000


@pytest.fixture
def batches(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    """Dice for each batch of inputs."""
    seed = request.config.getoption("--seed")
    count = (INPUTS if request.config.getoption("--long") else SAMPLE) // BATCH
    seeds = [seed] if seed is not None else random.sample(range(2**32), count)

    def each() -> Iterator[random.Random]:
        for at in seeds:
            print(f"\nrepeat with --seed {at}")  # shown if the batch fails
            yield random.Random(at)

    return each()
