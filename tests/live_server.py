"A real server in processes of its own, for tests (not a test by itself)."
import contextlib, http.client, json, os, signal, socket, subprocess, sys, time
from pathlib import Path


def start(model, folder: Path, **settings):
    "`serve` in a new process; ready when this returns."
    folder.mkdir(parents=True, exist_ok=True)
    given = dict(port=0, workers=1, threads=1, log=str(folder/'requests.log'), keys=str(folder/'keys.json'), state=str(folder/'state')) | settings
    code = ('import sys, json; from mlproject.core import Problem; from mlproject.serving.supervisor import Serving, serve\n'
            'model, given = json.loads(sys.argv[1])\n'
            'try: serve(model, Serving(**given), version="1", announce=lambda s: print(s.port, flush=True))\n'
            'except Problem as e: print(e, file=sys.stderr); sys.exit(2)')
    process = subprocess.Popen([sys.executable, '-c', code, json.dumps([str(model), given])], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line: raise RuntimeError(f'the server did not start: status {process.wait(10)}')
    return Server(process, int(line), folder)


class Server:
    def __init__(self, process, port: int, folder: Path): self.process, self.port, self.folder = process, port, folder

    def ask(self, method='GET', path='/v1/models', body=None, timeout=30, **headers):
        "(status, headers, body) on a connection of its own."
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)
        try:
            c.request(method, path, body, {k.replace('_', '-'): v for k, v in headers.items()})
            r = c.getresponse()
            return r.status, dict(r.getheaders()), r.read()
        finally: c.close()

    def predict(self, photo: bytes, **headers):
        status, _, body = self.ask('POST', '/v1/predict', photo, content_type='image/jpeg', **headers)
        return status, json.loads(body)

    def raw(self, *pieces: bytes, pause: float = 0., timeout: float = 20.) -> bytes:
        "Send pieces, then all that comes back until the server hangs up."
        with socket.create_connection(('127.0.0.1', self.port), timeout=timeout) as s:
            with contextlib.suppress(OSError):
                for p in pieces:
                    s.sendall(p)
                    time.sleep(pause)
            got = b''
            with contextlib.suppress(ConnectionError):
                while part := s.recv(65_536): got += part
            return got

    def workers(self) -> dict[int, dict]:
        "Snapshots by process id, of those that live."
        found = [json.loads(p.read_text()) for p in sorted((self.folder/'state').glob('worker-*.json'))]
        return {f['pid']: f for f in found if alive(f['pid'])}

    def log(self) -> list[dict]: return [json.loads(l) for l in (self.folder/'requests.log').read_text().splitlines()]

    def stop(self, timeout: float = 40.) -> int:
        if self.process.poll() is None: self.process.send_signal(signal.SIGTERM)
        try: return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def alive(pid: int) -> bool:
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    return True


def until(true, seconds: float = 20.):
    "Wait for a condition."
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, 'it did not happen in time'
        time.sleep(.05)
    return found
