"Our server with everything on, as `mlproject serve` starts it: keys, limits, metrics, traces and a line of log a request. Run: python whole_app.py MODEL PORT HOME"
import sys
from pathlib import Path

def key_of(home: Path) -> Path:   # the file of keys
    "A key for the load generator, made once; `home/key` holds its token."
    from mlproject.serving.guarding import create_key
    if not (home / 'key').exists(): (home / 'key').write_text(create_key(home / 'keys.json', 'benchmark')[0])
    return home / 'keys.json'

if __name__ == '__main__':
    from mlproject.settings import Serving
    from mlproject.serving.supervisor import serve
    model, port, home = Path(sys.argv[1]).resolve(), int(sys.argv[2]), Path(sys.argv[3])
    more = dict(a.split('=') for a in sys.argv[4:])
    serve(model, Serving(port=port, keys=str(key_of(home)), log=str(home / 'requests.log'), **{k: int(v) for k, v in more.items()}))
