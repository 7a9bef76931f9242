"Evidence of a gate for versions in a registry: the real gate, on made-up answers."
import numpy as np

from mlproject.evaluation.gate import GatePolicy, gate
from mlproject.operations.evidence import document, record

LABELS = ['Lynx lynx', 'Vulpes vulpes', 'Meles meles']

def result(passes: bool = True, seed: int = 3):
    "60 bursts of three photos; the candidate is better where it passes, worse where it does not; one camera is shown only."
    y = np.repeat(np.arange(60) % 3, 3)
    good, poor = np.eye(3)[y], np.eye(3)[np.where(np.arange(180) % 4 == 0, (y + 1) % 3, y)]
    camera = np.where(np.arange(180) < 90, 'creek', '<b>gate</b>')
    return gate(*((good, poor) if passes else (poor, good)), y, LABELS, np.arange(180) // 3, ['Lynx lynx'], shown=dict(camera=camera), policy=GatePolicy(), n=200, seed=seed)

def gated(version, champion: str | None, uri: str | None = None, passes: bool = True, of: str = '1') -> dict:   # champion: digest
    "The document; recorded beside the version when an address of a registry is given."
    made = document(result(passes), dict(version=str(version.version), digest=version.digest), champion and dict(version=of, digest=champion), dict(digest='d' * 32, photos=180, groups=60), by='anna')
    if uri: record(version, made, uri)
    return made
