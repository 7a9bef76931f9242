"Model cards for tests (not a test by itself)."
import numpy as np

from mlproject.export.cardpages import card_files
from mlproject.export.cards import Card, card_from

def toy_card(labels: list[str], lineage: dict | None = None, photos: int = 60) -> Card:
    "A complete card of a model that is right four times in five."
    rng = np.random.default_rng(3)
    y = rng.integers(0, len(labels), photos)
    said = np.where(rng.random(photos) < .8, y, rng.integers(0, len(labels), photos))
    return card_from('toy', labels, np.eye(len(labels))[said] * 3, y, lineage=lineage or {}, n=20)

def toy_files(labels: list[str], lineage: dict | None = None) -> dict[str, bytes]:
    "What `pack(…, files=…)` is given."
    return card_files(toy_card(labels, lineage))
