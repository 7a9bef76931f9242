"A small real extended model for the tests of serving, made without torch in milliseconds, and photos to go with it."
import time

import cv2
import numpy as np
import onnx
import simplejpeg
from onnx import TensorProto, helper, numpy_helper

from mlproject.export.extended import Preprocess, pack

SIZE, CLASSES, LARGE = 32, 5, 1500

def photo(seed: int, width: int = 120, height: int = 90) -> bytes:
    "A JPEG with large soft spots of its own."
    rng = np.random.default_rng(seed)
    rgb = cv2.resize(rng.integers(0, 200, (4, 5, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=90)

def white() -> bytes: return simplejpeg.encode_jpeg(np.full((90, 120, 3), 255, np.uint8), quality=95)

def network(seed: int = 0, embedding: int = 4 * 4 * 3,
            shift: float = 2.001,     # the higher, the less bright a photo has to be to ask for a row that is not there
            work: int = 0             # products of large matrices that change nothing and take time
            ) -> bytes:
    "Average pool -> linear, plus a row of a table chosen by brightness: a white photo asks for a row that is not there."
    rng = np.random.default_rng(seed)
    values = dict(w=rng.normal(0, 1, (embedding, CLASSES)).astype(np.float32), b=rng.normal(0, 1, CLASSES).astype(np.float32),
                  table=rng.normal(0, .1, (4, CLASSES)).astype(np.float32), axes=np.array([1, 2, 3]), two=np.array([shift], np.float32))
    make = helper.make_node
    nodes = [make('AveragePool', ['pixels'], ['pooled'], kernel_shape=[8, 8], strides=[8, 8]), make('Flatten', ['pooled'], ['embedding']),
             make('Gemm', ['embedding', 'w', 'b'], ['plain']), make('ReduceMean', ['pixels', 'axes'], ['mean'], keepdims=0),
             make('Add', ['mean', 'two'], ['shifted']), make('Cast', ['shifted'], ['row'], to=TensorProto.INT64),
             make('Gather', ['table', 'row'], ['extra'], axis=0), make('Add', ['plain', 'extra'], ['logits' if not work else 'quick'])]
    if work:
        values |= dict(wide=np.full((LARGE, LARGE), 1 / LARGE, np.float32), shape=np.array([LARGE, LARGE]), nothing=np.array([0], np.float32))
        nodes += [make('ReduceMean', ['pixels'], ['one'], keepdims=0), make('Expand', ['one', 'shape'], ['m0']), *[make('MatMul', [f'm{i}', 'wide'], [f'm{i + 1}']) for i in range(work)],
                  make('ReduceMean', [f'm{work}'], ['end'], keepdims=0), make('Mul', ['end', 'nothing'], ['zero']), make('Add', ['quick', 'zero'], ['logits'])]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ['batch', *s]) for n, s in
          (('pixels', (3, SIZE, SIZE)), ('logits', (CLASSES,)), ('embedding', (embedding,)))]
    graph = helper.make_graph(nodes, 'small', io[:1], io[1:], [numpy_helper.from_array(v, n) for n, v in values.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10).SerializeToString()

def small_extended(folder, seed: int = 0, name: str = 'animals', **how):
    "The folder of an extended model whose answers depend on `seed`; how: see `network`."
    return pack(folder, network(seed, **how), [f'Species {i}' for i in range(CLASSES)], Preprocess(SIZE, 36, (.5,) * 3, (.25,) * 3, 36),
                golden=photo(99), name=name, calibration=dict(temperature=1.3, threshold=.3))

def until(true, seconds: float = 20.) -> None:
    "Wait for something that another thread brings about."
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.002)
