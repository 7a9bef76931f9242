"The network as the peers run it: torch and torchvision on the CPU, one thread a worker, as their own guides advise."
import io, json
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torchvision.transforms.v2 import functional as F

torch.set_num_threads(1)

class TorchNetwork:
    "JPEG bytes -> pixels -> the five best classes."
    def __init__(self, folder: str | Path):   # with network.json and network.pt (tensors by torchvision's names)
        self.about = json.loads((Path(folder) / 'network.json').read_text())
        self.network = torchvision.models.get_model(self.about['backbone'], weights=None, num_classes=self.about['classes'])
        self.network.load_state_dict(torch.load(Path(folder) / 'network.pt', weights_only=True))
        self.network.eval().to(memory_format=torch.channels_last)
        self.logits(self.pixels(Path(folder, 'golden.jpg').read_bytes())[None])   # warm

    def pixels(self, data: bytes) -> torch.Tensor:   # (3, S, S)
        image = Image.open(io.BytesIO(data))
        image.draft('RGB', (self.about['resize'],) * 2)   # PIL's own scaled decoding
        image = F.center_crop(F.resize(image.convert('RGB'), self.about['resize']), self.about['size'])
        return F.normalize(F.to_dtype(F.to_image(image), torch.float32, scale=True), self.about['mean'], self.about['std'])

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        return self.network(batch.contiguous(memory_format=torch.channels_last))

    def answer(self, row: torch.Tensor) -> dict:
        "One photo's response."
        best = row.softmax(-1).topk(5)
        return dict(species=[dict(name=f'species {i}', score=round(p, 6)) for i, p in zip(best.indices.tolist(), best.values.tolist())])
