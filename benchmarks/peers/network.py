"What all servers of a comparison share: one network with seeded weights, as torch tensors for the peers and as an extended model for us, and the photos."
import json
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

MEAN, STD = (.485, .456, .406), (.229, .224, .225)

def jpegs(folder: Path, source: Path, count: int = 32, width: int = 500, height: int = 375, size: int = 51_000) -> Path:
    "`count` photos as JPEGs of one shape and about `size` bytes each, the same every time: real ones where they are, otherwise soft noise."
    from mlproject.photos import read_photo
    folder.mkdir(parents=True, exist_ok=True)
    paths = sorted(p for p in source.rglob('*.jpg') if '_BACKGROUND' not in p.name)
    paths = paths[::max(1, len(paths) // count)][:count]
    for i in range(count):
        rgb = read_photo(paths[i]) if i < len(paths) else np.random.default_rng([i, 1]).integers(0, 255, (94, 125, 3), np.uint8)
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC)
        # real photos of this size carry fine texture that an enlarged one lacks: seeded grain stands in for it
        rgb = np.clip(rgb + np.random.default_rng(i).normal(0, 6, rgb.shape), 0, 255).astype(np.uint8)
        made = [simplejpeg.encode_jpeg(rgb, quality=q, colorsubsampling='420') for q in range(40, 99, 2)]
        (folder / f'{i:03d}.jpg').write_bytes(min(made, key=lambda d: abs(len(d) - size)))
    return folder

def labelled(source: Path, most: int) -> tuple[list[Path], np.ndarray, list[str]]:
    "Evenly drawn photos of folders that are species."
    paths = sorted(source.rglob('*.jpg'))
    paths = paths[::max(1, len(paths) // most)]
    names = sorted({p.parent.name for p in paths})
    return paths, np.array([names.index(p.parent.name) for p in paths]), names

def seeded(backbone: str, names: list[str], size: int) -> tuple:
    "A network with seeded weights, and its pre-processing."
    from mlproject.export.extended import Preprocess
    from mlproject.training.networks import NetworkConfig, make_network
    config = NetworkConfig(backbone, tuple(names), size)
    return make_network(config, seed=0), Preprocess(size, config.resize, MEAN, STD, config.min_side_hint)

def random_extended(folder: Path, backbone: str, size: int, golden: bytes, classes: int = 100) -> Path:
    "An extended model with these weights as they are: speed does not depend on them."
    from mlproject.export.formats import write_extended
    names = [f'Species {i}' for i in range(classes)]
    network, prep = seeded(backbone, names, size)
    return write_extended(folder, network.eval(), names, prep, golden=golden)

def build(folder: Path, backbone: str, size: int, source: Path, most: int = 1500) -> dict:
    "network.json, network.pt and extended/: a random body with settled batch statistics, and a head fitted by least squares."
    import torch
    from mlproject.export.formats import write_extended
    from mlproject.training.networks import to_torchvision
    paths, y, names = labelled(source, most)
    network, prep = seeded(backbone, names, size)
    pixels = np.stack([prep.pixels(p) for p in paths])
    with torch.inference_mode():
        x = [torch.from_numpy(prep.tensor(pixels[i:i + 64])).to(memory_format=torch.channels_last) for i in range(0, len(pixels), 64)]
        for m in network.modules():
            if isinstance(m, torch.nn.BatchNorm2d): m.momentum = None
        network.train()
        for part in x[:2]: network.embed(part)
        network.eval()
        seen = torch.cat([network.embed(part) for part in x]).double()
    a = torch.cat([seen, torch.ones(len(seen), 1)], 1)
    known = np.arange(len(y)) % 2 == 0
    t = a[known]
    w = torch.linalg.solve(t.T @ t + 10. * torch.eye(a.shape[1]), t.T @ (8. * torch.eye(len(names), dtype=torch.float64)[y[known]]))
    with torch.no_grad():
        network.head.weight.copy_(w[:-1].T)
        network.head.bias.copy_(w[-1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(to_torchvision(network), folder / 'network.pt')
    golden = Path(paths[0]).read_bytes()
    (folder / 'golden.jpg').write_bytes(golden)
    write_extended(folder / 'plain', network, names, prep, golden=golden)
    about = dict(backbone=backbone, classes=len(names), size=size, resize=prep.resize, mean=MEAN, std=STD)
    (folder / 'network.json').write_text(json.dumps(about))
    rows = np.flatnonzero(~known)
    return dict(calibration=list(pixels[known][:160]), photos=list(pixels[~known]), labels=[names[y[i]] for i in rows])
