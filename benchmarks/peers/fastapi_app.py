"Plain FastAPI + torch, two uvicorn workers. Run: python fastapi_app.py FOLDER PORT"
import os, sys
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, UploadFile

network = None

@asynccontextmanager
async def loaded(app):
    global network
    from torch_network import TorchNetwork
    network = TorchNetwork(os.environ['NETWORK'])
    yield

app = FastAPI(lifespan=loaded)

@app.get('/health')
def health(): return dict(ready=network is not None)

@app.post('/predict')
async def predict(photos: UploadFile):
    "In the event loop: with one thread a worker nothing is won by handing it to a pool."
    return network.answer(network.logits(network.pixels(await photos.read())[None])[0])

if __name__ == '__main__':
    os.environ['NETWORK'] = sys.argv[1]
    uvicorn.run('fastapi_app:app', port=int(sys.argv[2]), workers=2, log_level='error', access_log=False)
