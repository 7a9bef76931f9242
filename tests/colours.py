"""A model that knows colours, made without torch, and photos for it; a process that serves a model through every door (not a test by itself)."""
import json, socket, subprocess, sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SPECIES = ['Vulpes vulpes', 'Euplectes axillaris', 'Alcedo atthis', 'Pica pica']

def network(size: int, classes: int = len(SPECIES)) -> bytes:
    "ONNX: the means of the planes in four quarters of the photo, through a fixed matrix."
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(5)
    weights = numpy_helper.from_array(rng.normal(0, 3, (12, classes)).astype(np.float32), 'weights')
    flat = numpy_helper.from_array(np.array([0, 12], np.int64), 'flat')
    nodes = [helper.make_node('AveragePool', ['pixels'], ['quarters'], kernel_shape=[size//2]*2, strides=[size//2]*2),
             helper.make_node('Reshape', ['quarters', 'flat'], ['embedding']), helper.make_node('MatMul', ['embedding', 'weights'], ['logits'])]
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, ['N', *shape])
    graph = helper.make_graph(nodes, 'colours', [value('pixels', 3, size, size)], [value('logits', classes), value('embedding', 12)], [weights, flat])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8).SerializeToString()

def photo(seed: int, height: int = 48, width: int = 64, suffix: str = '.jpg', quality: int = 95) -> bytes:
    "Soft coloured blots."
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    return cv2.imencode(suffix, cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

def pack_colours(folder: Path, size: int = 32, name: str = 'colours', threshold: float = 0.) -> Path:
    from carded import toy_files
    from mlproject.export.extended import Preprocess, pack
    prep = Preprocess(size, round(size*1.14), (.485, .456, .406), (.229, .224, .225))
    return pack(folder, network(size), SPECIES, prep, golden=photo(0), name=name, calibration=dict(temperature=1.3, threshold=threshold), files=toy_files(SPECIES))

class Process:
    "`mlproject serve` with all doors, in processes of its own on loopback: `rest` and `grpc` are its ports."
    def __init__(self, model: Path, **settings):
        for _ in range(3):  # a port that was free a moment ago may be taken
            with socket.create_server(('127.0.0.1', 0)) as free: self.grpc = free.getsockname()[1]
            self.process = subprocess.Popen([sys.executable, __file__, str(model), json.dumps(settings | dict(grpc_port=self.grpc))], stdout=subprocess.PIPE, text=True)
            if line := self.process.stdout.readline(): break
        assert line, 'the server did not start'
        self.rest = json.loads(line)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)

@pytest.fixture(scope='module')
def model(tmp_path_factory): return pack_colours(tmp_path_factory.mktemp('colours')/'model')

@pytest.fixture(scope='module')
def server(model):
    "A server with small limits; a test module that imports this fixture and `model` has one of its own."
    process = Process(model, body_mib=2, photo_mib=1, photos=12)
    yield process
    assert process.stop() in (0, -15)

def main(model: str, settings: dict) -> None:
    from mlproject.serving.supervisor import serve
    from mlproject.settings import Serving
    compose = settings.pop('compose', 'mlproject.operations.deployment:compose')
    serve(model, Serving(**dict(port=0, workers=1, log='off', keys='no-keys.json') | settings), version='1', compose=compose,
          announce=lambda supervisor: print(supervisor.port, flush=True))

if __name__ == '__main__': main(sys.argv[1], json.loads(sys.argv[2]))
