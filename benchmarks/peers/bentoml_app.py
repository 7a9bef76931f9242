"BentoML, two workers, adaptive batches of up to 8. Run: python bentoml_app.py FOLDER PORT"
import os, sys

if __name__ == '__main__':
    here = os.path.dirname(os.path.abspath(__file__))
    os.environ |= dict(NETWORK=sys.argv[1], BENTOML_DO_NOT_TRACK='True', PYTHONPATH=here + os.pathsep + os.environ.get('PYTHONPATH', ''))
    os.execv(sys.executable, [sys.executable, '-m', 'bentoml', 'serve', 'bentoml_app:Animals', '--working-dir', here,
                              '--host', '127.0.0.1', '--port', sys.argv[2]])

import bentoml
import PIL.Image  # noqa: F401
from pathlib import Path

@bentoml.service(workers=2, traffic=dict(timeout=60), logging=dict(access=dict(enabled=False)))
class Animals:
    def __init__(self):
        from torch_network import TorchNetwork
        self.network = TorchNetwork(os.environ['NETWORK'])

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=1000)
    def predict(self, photos: list[Path]) -> list[dict]:
        import torch
        rows = self.network.logits(torch.stack([self.network.pixels(p.read_bytes()) for p in photos]))
        return [self.network.answer(r) for r in rows]
