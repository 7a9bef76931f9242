"LitServe, two workers, batches of 8. Run: python litserve_app.py FOLDER PORT [ours]: with our decoder and onnxruntime inside."
import sys

import litserve as ls

class Api(ls.LitAPI):
    "Its contract of small methods, with torch."
    def setup(self, device):
        from torch_network import TorchNetwork
        self.network = TorchNetwork(sys.argv[1])

    def decode_request(self, request): return self.network.pixels(request['photos'].file.read())

    def batch(self, inputs):
        import torch
        return torch.stack(inputs)

    def predict(self, x): return self.network.logits(x)

    def unbatch(self, output): return list(output)

    def encode_response(self, row): return self.network.answer(row)

class Ours(Api):
    "The same with the extended model: simplejpeg with scaled decoding, OpenCV, onnxruntime."
    def setup(self, device):
        from mlproject.export.extended import ExtendedModel
        self.model = ExtendedModel.load(sys.argv[1] + '/extended', threads=1)

    def decode_request(self, request): return self.model.preprocess.pixels(request['photos'].file.read())

    def batch(self, inputs):
        import numpy as np
        return np.stack(inputs)

    def predict(self, x): return self.model.run(x)[0]

    def encode_response(self, row): return self.model.answer(row).as_dict()

if __name__ == '__main__':
    api = (Ours if 'ours' in sys.argv[3:] else Api)(max_batch_size=8, batch_timeout=.005)
    server = ls.LitServer(api, accelerator='cpu', workers_per_device=2)
    server.run(port=int(sys.argv[2]), host='127.0.0.1', generate_client_file=False, log_level='error')
