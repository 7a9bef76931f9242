"""Training speed against torchvision's reference recipe written plainly, interleaved in one run.

    python benchmarks/training_speed.py [survey | a folder with one subfolder a species] --network mobilenet_v2 --size 160

The plain recipe is the one of `pytorch/vision/references/classification` without its options: PIL ImageFolder, RandomResizedCrop, flip,
DataLoader with two workers (kept alive, their start not counted), float32, SGD. Ours reads its pixel cache (decoding is counted apart),
crops in a thread, keeps the statistics of batch normalisation moving and freezes nothing, so that both do the same work.
Rounds alternate; the table gives the median round of each, and the ratio with its range over rounds.
"""
import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from torchvision import datasets, transforms

from mlproject.core import cpus, environment, versions
from mlproject.training.datasets import photos_of
from mlproject.training.devices import processor, reproducible
from mlproject.training.fitting import begin, train_epoch
from mlproject.training.jobs import prepare


def survey_folder(root: Path) -> Path:
    "The built-in survey as one folder a species."
    from mlproject.data.survey import make_survey
    made = Path(make_survey(root / 'survey', species=20, photos=40))
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
    "The same with this package: the function, the precision used, and images/s of decoding."
    data = datasets.ImageFolder(folder)
    photos = photos_of([data.samples[i][0] for i in keep], [data.samples[i][1] for i in keep])
    changes = dict(image_size=size, batch_size=batch, crop_scale=(.08, 1.), epochs=1000, precision=precision)
    start = time.perf_counter()
    job = prepare(photos, None, data.classes, backbone=network, weights='none', recipe='scratch', overrides=changes, cache_dir=cache)
    decoding = len(keep) / (time.perf_counter() - start)
    state = begin(job)

    def epoch() -> float:
        seen, start = [], time.perf_counter()
        train_epoch(state, seen.append)
        state.epoch += 1
        return sum(seen) / (time.perf_counter() - start)
    return epoch, job.precision, decoding


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('data', nargs='?', default='survey')
    ask.add_argument('--network', default='mobilenet_v2')
    ask.add_argument('--size', type=int, default=160)
    ask.add_argument('--batch', type=int, default=32)
    ask.add_argument('--photos', type=int, default=640)
    ask.add_argument('--rounds', type=int, default=5)
    a = ask.parse_args()
    with tempfile.TemporaryDirectory() as temp, reproducible(cpus()):
        folder = survey_folder(Path(temp)) if a.data == 'survey' else Path(a.data)
        n = len(datasets.ImageFolder(folder))
        keep = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:a.photos].tolist()
        shape = (folder, keep, a.network, a.size, a.batch)
        runs = {'plain torchvision': plain(*shape)}
        fast, precision, _ = ours(*shape, Path(temp) / 'cache', 'auto')
        runs['mlproject, float32'] = ours(*shape, Path(temp) / 'cache', 'float32')[0]
        if precision != 'float32': runs[f'mlproject, {precision} (chosen)'] = fast
        rates = {name: [] for name in runs}
        for i in range(a.rounds + 1):
            for name, epoch in runs.items():
                rate = epoch()
                if i: rates[name].append(rate)  # round 0 warms up
    report(a, n, rates)


def report(a: argparse.Namespace, n: int, rates: dict[str, list[float]]) -> None:
    base = rates['plain torchvision']
    print(f'| {a.network} at {a.size} px, batch {a.batch} | images/s (median of {a.rounds}) | ratio (range over rounds) |\n|---|---|---|')
    for name, r in rates.items():
        ratio = [x / y for x, y in zip(r, base)]
        print(f'| {name} | {statistics.median(r):.0f} | {statistics.median(ratio):.2f} ({min(ratio):.2f}–{max(ratio):.2f}) |')
    e, v = environment(), versions('torch', 'torchvision', 'pillow', 'opencv-python-headless')
    print(f"\n{min(a.photos, n)} photos of {a.data if a.data == 'survey' else Path(a.data).name}; {processor()}, {e['cpus']} cores; Python {e['python']}, "
          + ', '.join(f'{k} {x}' for k, x in v.items()))


if __name__ == '__main__': main()
