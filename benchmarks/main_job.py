"""The main job on the built-in survey: minutes, memory, top-1. `make bench-main`"""
import shutil, sys
from common import ROOT, publish, run
from mlproject.core import read_json

out = 'build/bench-main'
shutil.rmtree(ROOT/out, ignore_errors=True)
wall, cpu, peak = run(sys.executable, '-m', 'mlproject.cli', 'run', '--out', out, *sys.argv[1:])
made = read_json(ROOT/out/'evaluation'/'evaluation.json')
e = made['top1']
publish('1_main_job', 'Main job on the built-in survey (`make bench-main`)', [{
    'species': made['species'], 'test photos': made['photos'], 'top-1': f"{100*e['value']:.1f} % ({100*e['low']:.1f} to {100*e['high']:.1f})",
    'minutes': f'{wall/60:.1f}', 'CPU-minutes': f'{cpu/60:.1f}', 'peak memory': f'{peak:.1f} GB', 'bars': '80 %, 8 minutes, 4 GB'}])
