"Our server with everything on: keys, limits, metrics, traces and a line of log a request. Run: python whole_app.py MODEL PORT HOME"
import sys
from pathlib import Path

import uvicorn
from mlproject.serving.app import create_app
from mlproject.serving.engine import EngineConfig
from mlproject.serving.guarding import Guard, create_key
from mlproject.serving.rollout import Fleet
from mlproject.serving.service import Service
from mlproject.serving.telemetry import Lines, Telemetry

def key_of(home: Path) -> Path:   # the file of keys
    "A key for the load generator, made once."
    keys = home / 'keys.json'
    if not (home / 'key').exists(): (home / 'key').write_text(create_key(keys, 'benchmark')[0])
    return keys

if __name__ == '__main__':
    model, port, home = Path(sys.argv[1]).resolve(), int(sys.argv[2]), Path(sys.argv[3])
    fleet = Fleet(EngineConfig())
    fleet.load(model)
    app = create_app(Service(fleet), guard=Guard(key_of(home)), telemetry=Telemetry(Lines(home / 'requests.log')))
    uvicorn.run(app, port=port, loop='uvloop', http='httptools', log_level='error', access_log=False)
