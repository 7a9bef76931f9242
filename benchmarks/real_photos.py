"""Fine-tuning on real photos: top-1 and training time over three split seeds. `make bench-real`

Needs the photos and weights named in MLPROJECT_SHARED_DATA (default ../shared/data). Splits are the pipeline's own: grouped, so
that near-duplicates (caltech101's leopards are 100 photos and their mirror images) never straddle train and test."""
import re, shutil, statistics, subprocess, sys
from common import ROOT, SHARED, publish
from mlproject.core import read_json, write_json

REUSE = '--reuse' in sys.argv  # take runs of an earlier call as they are: to go on after an interruption
WEIGHTS = SHARED/'weights'/'mobilenet_v2_imagenet.safetensors'

def one(data: str, seed: int, *words: str) -> tuple[float, float, int, dict]:
    "Top-1, seconds of the training task (decoding included), test photos, configuration."
    out = f'build/bench-{data}-{seed}'
    kept = ROOT/out/'measured.json'
    if REUSE and kept.exists(): return tuple(read_json(kept))
    shutil.rmtree(ROOT/out, ignore_errors=True)
    done = subprocess.run([sys.executable, '-m', 'mlproject.cli', 'run', '--data', SHARED/'photos'/data, '--weights', WEIGHTS, '--seed', str(seed),
                           '--out', out, '--partially', 'evaluate', *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr)
    seconds = float(re.search(r'^train +True +([\d.]+)', done.stdout, flags=re.M)[1])
    made = read_json(ROOT/out/'evaluation'/'evaluation.json')
    print(f"{data} seed {seed}: top-1 {made['top1']['value']:.4f} of {made['photos']} photos, training {seconds:.0f} s", flush=True)
    found = made['top1']['value'], seconds, made['photos'], read_json(ROOT/out/'network'/'config.json')
    write_json(kept, found)
    return found

def row(data: str, bar: str, seeds, *words: str) -> dict:
    "A row of the table: mean over seeds."
    found = [one(data, s, *words) for s in seeds]
    top, seconds = [f[0] for f in found], [f[1] for f in found]
    c = found[0][3]
    return {'photos': data, 'network': f"{c['backbone']}, {c['recipe']['epochs']} epochs at {c['recipe']['train_size'] or c['image_size']} px, judged at {c['image_size']} px",
            'test photos': ', '.join(str(f[2]) for f in found), 'top-1 by seed': ', '.join(f'{100*t:.1f}' for t in top),
            'mean top-1': f'{100*statistics.mean(top):.1f} %', 'training, minutes': f'{max(seconds)/60:.1f} at most', 'bars': bar}

if __name__ == '__main__':
    words = [w for w in sys.argv[1:] if w != '--reuse']
    rows = [row('caltech101_animals', '91.5 %, 6 minutes', (0, 1, 2), '--test', '0.3', '--validation', '0.05', *words),
            row('monkeys10', '95 %', (0, 1, 2), '--validation', '0.05', *words)]
    publish('3_real_photos', 'Fine-tuning on real photos (`make bench-real`)', rows,
            'Seeds decide split and training. monkeys10 is tested on its own validation folder, training photos that occur there removed.')
