"""Held-out photos of a finished build, spoiled in eight ways and three strengths, as the trained network sees them; cached.

    python benchmarks/shifted.py NAME BUILD PHOTOS      # NAME_clean_0.npz, NAME_dark_1.npz, … and NAME_rows.npz in build/shifted
"""
import os, sys
from pathlib import Path

import numpy as np

from common import ROOT

CACHE = Path(os.environ.get('MLPROJECT_SHIFTED', ROOT/'build'/'shifted'))
KINDS, LEVELS = ('dark', 'tint', 'blur', 'noise', 'fog', 'block', 'turn', 'coarse'), (1, 2, 3)

def make(name: str, build: Path, photos: Path, cache: Path = CACHE) -> None:
    "Spoil the validation and test photos of a build and keep logits, embeddings and quality figures."
    import torch
    from mlproject.core import read_shards
    from mlproject.looks import QUALITY, quality
    from mlproject.monitoring.rehearsal import spoil
    from mlproject.photos import fit_photo, read_photo, to_input
    from mlproject.training.checkpoints import load_network
    torch.set_num_threads(1)
    network, _ = load_network(build/'network')
    config, records, splits = network.config, read_shards(build/'curated').to_pandas().set_index('occurrenceID'), read_shards(build/'splits').to_pandas()
    splits = splits[splits.split != 'train'].sort_values('occurrenceID')
    records = records.loc[splits.occurrenceID]
    y = np.array([config.classes.index(s) for s in records.scientificName])
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(cache/f'{name}_rows.npz', y=y, group=splits.group.to_numpy().astype(str), split=splits.split.to_numpy().astype(str),
             site=records.locationID.fillna('').to_numpy().astype(str), date=records.eventDate.fillna('').to_numpy().astype(str), classes=np.array(config.classes))
    x = np.stack([fit_photo(read_photo(photos/p), config.image_size, config.resize) for p in records.associatedMedia])
    for kind, level in [('clean', 0), *((k, l) for k in KINDS for l in LEVELS)]:
        target = cache/f'{name}_{kind}_{level}.npz'
        if target.exists(): continue
        seen, parts = x if level == 0 else spoil(x, kind, level/3, seed=1), []
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
            for i in range(0, len(seen), 64):
                e = network.embed(torch.from_numpy(to_input(seen[i:i + 64], config.mean, config.std))).float()
                parts.append((network.head(e).float().numpy(), e.numpy()))
        logits, embedding = (np.concatenate(p) for p in zip(*parts))
        figures = [quality(p) for p in seen]
        np.savez(target, logits=logits, embedding=embedding.astype(np.float16), names=np.array(sorted(QUALITY)),
                 quality=np.array([[f[n] for n in sorted(QUALITY)] for f in figures], np.float32))
        print(name, kind, level, round(float((logits.argmax(1) == y).mean()), 4), flush=True)

def load(name: str, cache: Path = CACHE) -> tuple[dict, dict]:
    "(rows, (kind, level) -> arrays) of what was made."
    if not (cache/f'{name}_rows.npz').exists(): sys.exit(f'no {name} in {cache}: python benchmarks/shifted.py {name} BUILD PHOTOS')
    rows, found = dict(np.load(cache/f'{name}_rows.npz')), {}
    for kind, level in [('clean', 0), *((k, l) for k in KINDS for l in LEVELS)]:
        path = cache/f'{name}_{kind}_{level}.npz'
        if path.exists():
            z = np.load(path)
            found[kind, level] = dict(logits=z['logits'], embedding=z['embedding'].astype(np.float32), quality=dict(zip(z['names'].tolist(), z['quality'].T)))
    return rows, found

if __name__ == '__main__': make(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
