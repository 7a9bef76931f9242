"""Batch prediction against what decoding and the network alone allow on the same cores, measured in the same run. `make bench-batch`"""
import argparse, os, statistics, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '2'  # Arrow's threads, and with them those of `cores`; before the first import of Arrow
import cv2
import numpy as np

from common import publish
from mlproject.export.extended import ExtendedModel, Preprocess
from mlproject.serving.batch import BatchConfig, predict_batch

GROUP = BatchConfig().group

def photos(folder: Path, n: int) -> list[Path]:
    "JPEGs of about 51 KB, 500 x 375; 150 different ones, again and again."
    rng = np.random.default_rng(0)
    base = cv2.resize(rng.integers(0, 255, (40, 56, 3), dtype=np.uint8), (600, 450), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    data = []
    for i in range(min(n, 150)):
        noise = rng.normal(0, 9, (375, 500, 1))
        top, left = rng.integers(0, 75), rng.integers(0, 100)
        rgb = np.clip(base[top:top + 375, left:left + 500] + noise, 0, 255).astype(np.uint8)
        data.append(cv2.imencode('.jpg', rgb, [cv2.IMWRITE_JPEG_QUALITY, 76])[1].tobytes())
    for i in range(n):
        path = folder/f'{i % 7}'/f'{i:05d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[i % len(data)])
    return sorted(folder.rglob('*.jpg'))

def model(folder: Path, backbone: str, size: int, golden: bytes) -> Path:
    import torch
    from mlproject.export.formats import write_extended
    from mlproject.training.networks import NetworkConfig, make_network
    torch.manual_seed(0)
    labels = tuple(f'species {i:02d}' for i in range(100))
    prep = Preprocess(size, round(size*1.14), (.485, .456, .406), (.229, .224, .225), min_side_hint=round(size*1.14))
    return write_extended(folder, make_network(NetworkConfig(backbone, labels, image_size=size)), list(labels), prep, golden=golden)

def in_threads(work, items: list, threads: int) -> tuple[float, float]:
    "Wall and CPU seconds of `work` over items."
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool: list(pool.map(work, items))
    return time.perf_counter() - wall, time.process_time() - cpu

def round_(net: ExtendedModel, where: Path, paths: list[Path], out: Path, threads: int) -> dict:
    "One measurement of each: decoding alone, the network alone, and the whole."
    groups = [paths[i:i + GROUP] for i in range(0, len(paths), GROUP)]
    data = [[p.read_bytes() for p in g] for g in groups]
    pixels = [None]*len(data)
    def decode(i): pixels[i] = np.stack([net.preprocess.pixels(d) for d in data[i]])
    decoded = in_threads(decode, range(len(data)), threads)
    network = in_threads(lambda p: net.run(p, len(p)), pixels, threads)
    del data, pixels
    wall, cpu = time.perf_counter(), time.process_time()
    predict_batch(net.folder, where, out, BatchConfig())
    whole = time.perf_counter() - wall, time.process_time() - cpu
    return dict(decode=decoded, network=network, whole=whole)

if __name__ == '__main__':
    ask = argparse.ArgumentParser()
    ask.add_argument('--photos', type=int, default=4000)
    ask.add_argument('--rounds', type=int, default=3)
    ask.add_argument('--backbone', default='mobilenet_v3_small')
    ask.add_argument('--size', type=int, default=160)
    asked, threads = ask.parse_args(), 2
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        paths = photos(folder/'photos', asked.photos)
        size = sum(p.stat().st_size for p in paths)/len(paths)/1e3
        net = ExtendedModel.load(model(folder/'model', asked.backbone, asked.size, paths[0].read_bytes()), threads=1)
        rounds = [round_(net, folder/'photos', paths, folder/f'out{i}', threads) for i in range(asked.rounds)]
    n, rows = len(paths), []
    for what, at in (('wall', 0), ('CPU', 1)):
        cost = {k: [r[k][at]/n for r in rounds] for k in ('decode', 'network', 'whole')}
        share = [(d + w)/x for d, w, x in zip(cost['decode'], cost['network'], cost['whole'])]
        ms = {k: 1000*statistics.median(v) for k, v in cost.items()}
        rate = 1000/ms['whole'] * (1 if what == 'wall' else threads)
        rows.append({'clock': what, 'decode, ms': f"{ms['decode']:.3f}", 'network, ms': f"{ms['network']:.3f}", 'whole, ms': f"{ms['whole']:.3f}", 'photos/s': f'{rate:,.0f}',
                     'of the ceiling': f'{100*statistics.median(share):.0f} % ({100*min(share):.0f} to {100*max(share):.0f})', 'bar': '80 %'})
    publish('7_batch', f'Batch prediction, {n:,} JPEGs of {size:.0f} KB, {asked.backbone} at {asked.size} px, {threads} threads (`make bench-batch`)', rows,
            f'Medians of {asked.rounds} rounds, each of which decodes all photos, runs the network on all pixels, and predicts the folder from start (listing, loading and verifying '
            f'the model, reading, writing Parquet) to end. Milliseconds a photo; those of the wall clock with {threads} threads, those of the CPU of one. '
            'The ceiling is decoding and network alone, one after the other.')
