"Plain FastAPI + torch, two uvicorn workers. Run: python fastapi_app.py FOLDER PORT"
import os, sys

import uvicorn
from fastapi import FastAPI, UploadFile

app = FastAPI()
network = None

@app.on_event('startup') if hasattr(app, 'on_event') else app.router.on_startup.append
def load():
    global network
    from torch_network import TorchNetwork
    network = TorchNetwork(os.environ['NETWORK'])

@app.get('/health')
def health(): return dict(ready=network is not None)

@app.post('/predict')
async def predict(photos: UploadFile):
    "In the event loop: with one thread a worker nothing is won by handing it to a pool."
    return network.answer(network.logits(network.pixels(await photos.read())[None])[0])

if __name__ == '__main__':
    os.environ['NETWORK'] = sys.argv[1]
    uvicorn.run('fastapi_app:app', port=int(sys.argv[2]), workers=2, log_level='error', access_log=False)
