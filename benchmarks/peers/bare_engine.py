"Our engine behind the smallest possible door: no keys, metrics, logs; a process a core, each with one thread, as in our server. Run: python bare_engine.py FOLDER PORT [MODEL]"
import asyncio, json, multiprocessing, os, socket, sys, time

import uvicorn, uvloop
from mlproject.core import cpus
from mlproject.serving.engine import Engine
from mlproject.serving.jobs import EngineConfig
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

def work(channel: socket.socket, folder: str, ready) -> None:
    "A process that answers the connections it is handed."
    async def live():
        model = load_model(folder)
        model.check()
        config = uvicorn.Config(application(Engine(model, EngineConfig(threads=1))), loop='uvloop', http='httptools', lifespan='off', log_level='error', access_log=False)
        config.load()
        loop, state = asyncio.get_running_loop(), uvicorn.server.ServerState()
        def taken():
            _, (fd, *_), *_ = socket.recv_fds(channel, 1, 1)
            loop.create_task(loop.connect_accepted_socket(lambda: config.http_protocol_class(config=config, server_state=state, app_state={}), socket.socket(fileno=fd)))
        loop.add_reader(channel, taken)
        ready.release()
        await asyncio.Event().wait()
    sys.setswitchinterval(.0005)   # as our workers do
    uvloop.run(live())

if __name__ == '__main__':
    from mlproject.serving.supervisor import MALLOC
    if not MALLOC.keys() <= os.environ.keys(): os.execve(sys.executable, [sys.executable, *sys.argv], MALLOC | os.environ)
    folder, ready, channels = f'{sys.argv[1]}/{(sys.argv[3:] or ["extended"])[0]}', multiprocessing.Semaphore(0), []
    for _ in range(cpus()):
        ours, theirs = socket.socketpair()
        multiprocessing.get_context('fork').Process(target=work, args=(theirs, folder, ready), daemon=True).start()
        channels.append(ours)
    for _ in channels: ready.acquire()
    with socket.create_server(('127.0.0.1', int(sys.argv[2])), backlog=512) as door:
        for turn in range(2**62):
            connection, _ = door.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socket.send_fds(channels[turn % len(channels)], [b'.'], [connection.fileno()])
            connection.close()
