"""What looking at a photo costs: decoding, quality figures, hashes. `python benchmarks/photos.py [PHOTOS]`

Photos of 640 x 480 pixels (those of the shared set, enlarged and stored as JPEG of quality 90) go through what the data steps do with a photo; the same work with
Pillow and imagehash-style hashing of eight orientations stands beside it, in turn, in the same process.
"""
import sys, time

import cv2, numpy as np, simplejpeg
from common import SHARED, publish
from PIL import Image, ImageOps

from mlproject.data.examples import look
from mlproject.photos import read_photo

def photos(n: int) -> list[bytes]:
    "JPEGs of 640 x 480: real ones enlarged where the shared set is present, drawn noise over a gradient otherwise."
    found = sorted((SHARED/'photos'/'caltech101_animals').rglob('*.jpg'))[::max(1, 2399//n)][:n]
    if found: seen = [cv2.resize(read_photo(p), (640, 480), interpolation=cv2.INTER_CUBIC) for p in found]
    else:
        rng = np.random.default_rng(0)
        seen = [cv2.resize(rng.integers(0, 255, (60, 80, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC) for _ in range(n)]
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=90) for rgb in seen]

def pillow(data: bytes) -> None:
    "The usual way: Pillow decodes, each of eight orientations is hashed from the picture, the figures come from the whole picture."
    import io
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB')
    grey = np.asarray(image.convert('L'))
    grey.mean(), np.percentile(grey, (1, 99)), cv2.Laplacian(grey, cv2.CV_64F).var()
    for k in range(8):
        turned = image if k == 0 else image.transpose(Image.Transpose(k - 1))
        cv2.dct(np.asarray(turned.convert('L').resize((32, 32), Image.Resampling.LANCZOS), np.float32))[:8, :8]

def rate(work, sample) -> float:
    "Photos a CPU second."
    start = time.process_time()
    for data in sample: work(data)
    return len(sample)/(time.process_time() - start)

if __name__ == '__main__':
    cv2.setNumThreads(1)
    sample = photos(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    steps = {'decode': lambda d: read_photo(d), 'decode, hash, quality': look, 'Pillow, eight hashes, quality': pillow}
    for work in steps.values(): rate(work, sample[:20])
    seen = {name: [] for name in steps}
    for _ in range(3):
        for name, work in steps.items(): seen[name].append(rate(work, sample))
    publish('photos', 'Looking at photos of 640 x 480 (`make bench-photos`)',
            [{'work': name, 'photos a CPU second': f'{np.median(r):.0f}', 'CPU-ms a photo': f'{1000/np.median(r):.2f}', 'bar': '150' if name.startswith('decode,') else ''} for name, r in seen.items()],
            f'{len(sample)} JPEGs of {np.mean([len(d) for d in sample])/1000:.0f} kB, median of three rounds in turn.')
