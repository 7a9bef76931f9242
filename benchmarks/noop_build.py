"""A build with nothing to do against `ploomber status` alone, interleaved. `make bench-build`"""
import statistics, subprocess, sys, time
from pathlib import Path
from common import ROOT, publish

ploomber = Path(sys.executable).parent/'ploomber'

def seconds(*command):
    start = time.perf_counter()
    subprocess.run([ploomber, *command], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start

extra = sys.argv[1:]
seconds('build', *extra) # whatever there is to do
pairs = [(seconds('status', *extra), seconds('build', *extra)) for _ in range(7)]
ratio = statistics.median(b/s for s, b in pairs)
publish('4_noop_build', 'A build with nothing to do (`make bench-build`)', [{
    'ploomber status, s': f'{statistics.median(s for s, _ in pairs):.2f}', 'ploomber build, s': f'{statistics.median(b for _, b in pairs):.2f}',
    'ratio': f'{ratio:.2f}', 'bar': '1.3'}], 'Medians of seven interleaved pairs.')
