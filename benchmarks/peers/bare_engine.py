"Our engine behind the smallest possible door: no keys, metrics, logs. Run: python bare_engine.py FOLDER PORT"
import json, sys, time

import uvicorn
from mlproject.serving.engine import Engine
from mlproject.serving.sessions import load_model
from mlproject.serving.inputs import Limits, read_request

def application(engine: Engine, limits: Limits = Limits()):
    "An ASGI application of one route."
    async def app(scope, receive, send):
        if scope['type'] != 'http': return
        parts, more = [], scope['method'] == 'POST'
        while more:
            message = await receive()
            parts.append(message.get('body', b''))
            more = message.get('more_body', False)
        body = b'{}'
        if parts:
            kind = next(v for k, v in scope['headers'] if k == b'content-type').decode()
            request = read_request(kind, b''.join(parts), {}, limits)
            found = await engine.answers([p.data for p in request.photos], time.monotonic() + 5)
            body = json.dumps([a.prediction.as_dict() for a in found]).encode()
        await send(dict(type='http.response.start', status=200, headers=[(b'content-type', b'application/json'),
                                                                         (b'content-length', str(len(body)).encode())]))
        await send(dict(type='http.response.body', body=body))
    return app

if __name__ == '__main__':
    sys.setswitchinterval(.0005)   # as our workers do
    model = load_model(sys.argv[1] + '/extended')
    model.check()
    uvicorn.run(application(Engine(model)), port=int(sys.argv[2]), loop='uvloop', http='httptools', lifespan='off', log_level='error', access_log=False)
