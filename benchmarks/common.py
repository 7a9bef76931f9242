"""What the benchmarks share: who ran where, running a command under the system's own accounting, writing the table."""
import os, platform, subprocess, sys, time
from pathlib import Path

from mlproject.core import cpus, versions, write_atomic

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get('MLPROJECT_SHARED_DATA', ROOT.parent/'shared'/'data'))

def machine() -> str:
    "Processor, usable cores and the versions that matter, in one line."
    info = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    model = next((l.split(':')[1].strip() for l in info.splitlines() if l.startswith('model name')), platform.processor())
    flags = [f for f in ('amx_bf16', 'avx512_bf16', 'avx512f', 'avx2') if f' {f}' in info][:2]
    v = versions('torch', 'torchvision', 'numpy', 'onnxruntime', 'ploomber')
    return f"{model} ({', '.join(flags)}), {cpus()} cores, Python {platform.python_version()}, " + ', '.join(f'{k} {x}' for k, x in v.items())

def run(*command: str, cwd: Path = ROOT, env: dict | None = None) -> tuple[float, float, float]:
    "Run a command to its end: (wall seconds, CPU seconds, peak memory in GB of the whole process tree as sampled)."
    import psutil
    start, peak = time.perf_counter(), 0
    child = subprocess.Popen(command, cwd=cwd, env=os.environ | (env or {}))
    p, cpu = psutil.Process(child.pid), {}
    while child.poll() is None:
        rss = 0
        try:
            for q in [p, *p.children(recursive=True)]:
                try:
                    rss += q.memory_info().rss # shared pages are counted once a process: an upper bound
                    t = q.cpu_times(); cpu[q.pid] = t.user + t.system
                except psutil.Error: pass
        except psutil.Error: pass
        peak = max(peak, rss)
        time.sleep(.5)
    if child.returncode: sys.exit(f"{' '.join(command)}: exit status {child.returncode}")
    return time.perf_counter() - start, sum(cpu.values()), peak/1e9

def table(rows: list[dict]) -> str:
    "A Markdown table of rows with the same keys."
    keys = list(rows[0])
    lines = [keys, ['---']*len(keys), *([str(r[k]) for k in keys] for r in rows)]
    return '\n'.join('| ' + ' | '.join(l) + ' |' for l in lines)

def publish(name: str, title: str, rows: list[dict], note: str = '') -> None:
    "Print the table and keep it in benchmarks/results, where the README takes it from."
    text = f"**{title}**\n\n{table(rows)}\n\n{note + ' ' if note else ''}*{machine()}.*\n"
    print(text)
    write_atomic(ROOT/'benchmarks'/'results'/f'{name}.md', text)
