"""The nine steps end to end. `python benchmarks/curation.py ROWS [--steps all|eight] [--workers 2] [--keep] [--corpus FOLDER]`

Draws the corpus of benchmarks/corpus.py (once, beside the products), takes it through steps 1 to 8 with pattern PII, or through all nine with the tagger of
persons and the tokeniser, and prints records a second end to end, CPU-us a record of every step, and the peak memory of the process tree. Products go to a
temporary folder and are deleted. A larger ROWS is meant for a machine that is otherwise idle.
"""
import argparse, json, subprocess, sys, tempfile, threading, time
from pathlib import Path

import psutil

from common import ROOT, publish

EIGHT = ('cleaning', 'quality', 'dedup', 'privacy', 'formats', 'alignment', 'enrichment')
KEY = 'a key for a benchmark, no secret'

class Watch(threading.Thread):
    "CPU seconds and peak memory of this process and its children."
    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak, self.cpu, self.disk, self.over = pid, 0, {}, 0, threading.Event()

    def run(self):
        while not self.over.wait(.25):
            total = 0
            try: tree = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
            except psutil.Error: break
            for p in tree:
                try:
                    with p.oneshot():
                        total += p.memory_full_info().uss  # memory that would be free if the process ended: shared pages are not counted twice
                        self.cpu[p.pid] = sum(p.cpu_times()[:2])
                except psutil.Error: pass
            self.peak = max(self.peak, total)

def one(source: Path, out: Path, steps: str, workers: int, lean: bool) -> dict:
    "One run in a process of its own."
    code = f"""
import json, sys, time
from pathlib import Path
from mlproject.data.curation import curate
from mlproject.data.passes import CurationConfig, STEPS
if __name__ == '__main__':
    steps = {EIGHT!r} if {steps!r} == 'eight' else STEPS
    start = time.perf_counter()
    made = curate([{str(source)!r}], {str(out)!r}, CurationConfig(only=steps, persons={steps != 'eight'}), workers={workers}, keep_intermediates={not lean})
    print(json.dumps(dict(wall=time.perf_counter() - start, rows=made.manifest['loaded']['rows'], kept=made.manifest['rows'], digest=made.manifest['digest'])))
"""
    script = out.parent/'run.py'
    script.write_text(code)
    import os
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | dict(MLPROJECT_PRIVACY_KEY=KEY, PYTHONPATH=str(ROOT)))
    watch = Watch(child.pid)
    watch.start()
    disk, told = 0, None
    while child.poll() is None:
        time.sleep(2)
        disk = max(disk, sum(f.stat().st_size for f in out.rglob('*') if f.is_file()) if out.exists() and source != out else 0) if int(time.time()) % 10 < 2 else disk
    told = child.stdout.read()
    watch.over.set(); watch.join()
    if child.returncode: sys.exit(f'the run failed with exit status {child.returncode}')
    return json.loads(told.strip().splitlines()[-1]) | dict(peak=watch.peak, cpu=sum(watch.cpu.values()), disk=disk)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('rows', type=int)
    p.add_argument('--steps', choices=('all', 'eight'), default='eight')
    p.add_argument('--workers', type=int, default=2)
    p.add_argument('--corpus', type=Path, default=None, help='folder of a corpus that is there already')
    p.add_argument('--keep', action='store_true', help='keep intermediates (default: they are deleted on the way)')
    p.add_argument('--publish', action='store_true', help='write the tables to benchmarks/results')
    a = p.parse_args()
    with tempfile.TemporaryDirectory(prefix='curation-') as temp:
        temp, corpus = Path(temp), a.corpus
        if corpus is None:
            corpus = temp/'corpus'
            subprocess.run([sys.executable, str(ROOT/'benchmarks'/'corpus.py'), str(corpus), str(a.rows)], check=True, cwd=ROOT/'benchmarks')
        got = one(corpus/'records', temp/'out', a.steps, a.workers, not a.keep)
        from mlproject.data.shards import Stage, costs
        steps = [(n, c) for n in ('first', 'second', 'records') for c in costs(Stage(corpus, temp/'out'/n, ()))]
        table = [dict({'pass': n}, step=c['step'], **{'CPU-us a record': f"{c['us']:.1f}"}) for n, c in steps]
        whole = [{'records': f"{got['rows']:,}", 'steps': '1 to 9, tagger' if a.steps == 'all' else '1 to 8, pattern PII', 'workers': a.workers,
                  'records/s': f"{got['rows']/got['wall']:,.0f}", 'CPU-us a record': f"{1e6*got['cpu']/got['rows']:.0f}", 'wall s': f"{got['wall']:.0f}",
                  'peak memory GB': f"{got['peak']/1e9:.2f}", 'disk GB': f"{got['disk']/1e9:.2f}", 'kept': f"{got['kept']:,}", 'digest': got['digest'][:12]}]
        if a.publish:
            publish(f'curation_{a.steps}_{a.rows}', f'The nine steps over {a.rows:,} documents of about 1 KB', whole)
            publish(f'curation_steps_{a.steps}_{a.rows}', 'CPU time of each step, processes together', table)
        else:
            from common import table as shown
            print(shown(whole), '\n'); print(shown(table))

if __name__ == '__main__': main()
