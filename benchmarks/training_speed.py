"""Training speed against torchvision's reference recipe written plainly, interleaved in one run.

    python benchmarks/training_speed.py [survey | a folder with one subfolder a species] --network resnet18 --size 64

The plain recipe is the one of `pytorch/vision/references/classification` without its options: PIL ImageFolder, RandomResizedCrop, flip,
DataLoader with two workers (kept alive, their start not counted), float32, SGD. Ours reads its pixel cache (made before the clock starts),
crops in a thread, keeps the statistics of batch normalisation moving and freezes nothing, so that both do the same work.
Each has a process of its own, which rests while the others work. Rounds alternate; the table gives the median round of each, and the ratio with its range over rounds.
"""
import argparse
import contextlib
import csv
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from torchvision import datasets, transforms

from common import publish
from mlproject.core import cpus
from mlproject.training.datasets import photos_of
from mlproject.training.devices import keep_memory, reproducible
from mlproject.training.fitting import begin, train_epoch
from mlproject.training.jobs import prepare


def survey_folder(root: Path) -> Path:
    "The built-in survey as one folder a species."
    from mlproject.data.survey import make_survey
    made = make_survey(root / 'survey', species=20, photos=40)
    with open(made / 'occurrences.csv', newline='') as f: rows = list(csv.DictReader(f))
    for r in rows:
        source = made / r['associatedMedia']
        target = root / 'folder' / r['scientificName'].strip().replace('/', '_') / source.name
        try: datasets.folder.pil_loader(str(source))
        except OSError: continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists(): target.symlink_to(source.resolve())
    return root / 'folder'


def plain(folder: Path, keep: list[int], network: str, size: int, batch: int):
    "torchvision's reference, plainly: a function that trains one epoch and gives images/s."
    chain = transforms.Compose([transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.PILToTensor(),
                                transforms.ConvertImageDtype(torch.float), transforms.Normalize((.485, .456, .406), (.229, .224, .225))])
    data = datasets.ImageFolder(folder, chain)
    model = torchvision.models.get_model(network, num_classes=len(data.classes)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=.01, momentum=.9, weight_decay=1e-4)
    criterion = torch.nn.CrossEntropyLoss()
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(data, keep), batch, shuffle=True, num_workers=2, drop_last=True,
                                         persistent_workers=True)

    def epoch() -> float:
        batches = iter(loader)
        first, n, start = True, 0, 0.
        for x, y in batches:
            if first: first, start = False, time.perf_counter()
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            n += len(y)
        return n / (time.perf_counter() - start)
    return epoch


def ours(folder: Path, keep: list[int], network: str, size: int, batch: int, cache: Path, precision: str):
    "The same with this package, and the precision that it uses."
    data = datasets.ImageFolder(folder)
    photos = photos_of([data.samples[i][0] for i in keep], [data.samples[i][1] for i in keep])
    changes = dict(image_size=size, batch_size=batch, crop_scale=(.08, 1.), epochs=1000, precision=precision)
    job = prepare(photos, None, data.classes, backbone=network, weights='none', recipe='scratch', overrides=changes, cache_dir=cache)
    state = begin(job)

    def epoch() -> float:
        seen, start = [], time.perf_counter()
        train_epoch(state, seen.append)
        state.epoch += 1
        return sum(seen) / (time.perf_counter() - start)
    return epoch, job.precision


def contender(name: str, a: argparse.Namespace, folder: Path, keep: list[int], cache: Path, pipe) -> None:
    "A process of its own: makes itself ready, then trains an epoch whenever it is asked to."
    shape = (folder, keep, a.network, a.size, a.batch)
    if name == 'plain': epoch, about = plain(*shape), 'float32'
    else:
        keep_memory()
        epoch, about = ours(*shape, cache, name)
    with contextlib.nullcontext() if name == 'plain' else reproducible(cpus()):
        pipe.send(about)
        while pipe.recv(): pipe.send(epoch())


def measure(a: argparse.Namespace, folder: Path, temp: Path) -> list[dict]:
    "Rounds in turn; the first is not counted."
    spawn, n = multiprocessing.get_context('spawn'), len(datasets.ImageFolder(folder))
    keep = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:a.photos].tolist()
    pipes, names = {}, {}
    for way in ('plain', 'float32', 'auto'):
        pipes[way], theirs = spawn.Pipe()
        spawn.Process(target=contender, args=(way, a, folder, keep, temp / 'cache', theirs)).start()  # not a daemon: the plain one has workers of its own
        precision = pipes[way].recv()  # ready, before the next one begins
        names[way] = dict(plain='torchvision, plain', float32='mlproject').get(way, 'mlproject, as it chooses here') + f', {precision}'
    rates = {name: [] for name in names.values()}
    for i in range(a.rounds + 1):
        for way, pipe in pipes.items():
            pipe.send(True)
            rate = pipe.recv()
            if i: rates[names[way]].append(rate)
    for pipe in pipes.values(): pipe.send(False)
    return report(rates)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('data', nargs='?', default='survey')
    ask.add_argument('--network', default='resnet18')
    ask.add_argument('--size', type=int, default=64)
    ask.add_argument('--batch', type=int, default=32)
    ask.add_argument('--photos', type=int, default=512)
    ask.add_argument('--rounds', type=int, default=7)
    a = ask.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        rows = measure(a, survey_folder(Path(temp)) if a.data == 'survey' else Path(a.data), Path(temp))
    data = 'the built-in survey' if a.data == 'survey' else Path(a.data).name
    publish(f'3_training_speed_{a.network}_{a.size}', f'Training {a.network} at {a.size} px, batch {a.batch}, on {data} (`make bench-speed`)', rows,
            f'{a.photos} photos a round, median of {a.rounds} rounds in turn.')


def report(rates: dict[str, list[float]]) -> list[dict]:
    "A row per contender: median speed, and how many times the plain recipe's."
    base, rows = next(iter(rates.values())), []
    for name, r in rates.items():
        ratio = [x / y for x, y in zip(r, base)]
        rows.append({'training loop': name, 'images/s': f'{statistics.median(r):.0f}',
                     'times plain (range over rounds)': f'{statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})'})
    return rows


if __name__ == '__main__': main()
