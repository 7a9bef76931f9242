"""A brake for runs that are to be killed: what happens is said by events, not by how quick the machine is.

A run with MLPROJECT_BRAKE (a folder and a number) makes so many notes of shards below that folder and then stands still, having said so by the file `braked` beside
it. So it can be killed at any moment and cannot be done before, however late the killer wakes up."""
import os, signal, subprocess, time
from pathlib import Path

from mlproject.data import shards


def notes(folder: Path) -> int: return len(list(Path(folder).glob(f'*/{shards.NOTES}/*.json')))


def standing(folder: Path) -> Path: return folder.with_name(folder.name + '.braked')


def put_on() -> None:
    "In a run, before its work; in each of its processes."
    if 'MLPROJECT_BRAKE' not in os.environ: return
    folder, most = os.environ['MLPROJECT_BRAKE'].rsplit(':', 1)
    folder, write = Path(folder), shards._write
    def braked(*args):
        while notes(folder) >= int(most):
            standing(folder).touch()
            time.sleep(.01)
        return write(*args)
    shards._write = braked


def kill_in_the_middle(start, folder: Path, seen, until: int, most: int, pause: float) -> bool:  # whether it was killed; False: it was done
    "Start a run, kill it `pause` seconds after `seen()` is `until`, or once it has made `most` more notes."
    standing(folder).unlink(missing_ok=True)
    p: subprocess.Popen = start(dict(MLPROJECT_BRAKE=f'{folder}:{notes(folder) + most}'))
    while seen() < until and not standing(folder).exists() and p.poll() is None: time.sleep(.005)
    time.sleep(pause)
    p.send_signal(signal.SIGKILL)
    done = p.wait() == 0
    p.communicate()
    return not done
