"""All entries of the zoo: one import for each family."""

from zoo import (  # noqa: F401
    adversarial,
    batches,
    construction,
    language,
    losses,
    selfsupervised,
    transfer,
    vision,
)
from zoo.entry import ENTRIES, Entry

ALL: list[Entry] = list(ENTRIES.values())
