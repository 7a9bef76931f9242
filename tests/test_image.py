"""What the image would contain, without a Docker engine: the lock and the wheel in an empty environment, served from as the container would:
by a number that is not root, as process 1, on a read-only root."""
import json, os, shutil, signal, socket, subprocess, sys, time, urllib.request, venv
from pathlib import Path

import pytest
from conftest import QUIET, ROOT, copy_repository

pytestmark = pytest.mark.slow
ABSENT = ('torch', 'torchvision', 'pandas', 'pyarrow', 'mlflow', 'scipy', 'matplotlib', 'sklearn', 'nbdev', 'IPython', 'pip')
# What a slim Debian has; everything else must come with the wheels.
SYSTEM = {'linux-vdso', 'ld-linux-x86-64', 'ld-linux-aarch64', 'libc', 'libm', 'libdl', 'libpthread', 'librt', 'libgcc_s', 'libstdc++', 'libz'}

@pytest.fixture(scope='module')
def image(tmp_path_factory):
    "The virtual environment of the Dockerfile's first stage, step by step."
    work = tmp_path_factory.mktemp('image')
    source = copy_repository(work/'source')
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', work/'dist', '.'], cwd=source, check=True, capture_output=True)
    venv.create(work/'env', with_pip=False)
    python = work/'env'/'bin'/'python'
    install = [*pip, '--python', python, 'install', '--no-deps', '--only-binary', ':all:']
    subprocess.run([*install, '-r', ROOT/'requirements-serve.lock'], check=True)
    subprocess.run([*install, next((work/'dist').glob('*.whl'))], check=True)
    for p in (work, *work.parents): # what is made for one user has to be read by another one
        if p.stat().st_uid == os.getuid() and p != Path('/'): p.chmod(p.stat().st_mode | 0o055)
        if p.name.startswith('pytest-of-'): break
    return work/'env'

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    import cv2, numpy as np, onnx
    from mlproject.export.extended import Preprocess, pack
    h, rng = onnx.helper, np.random.default_rng(0)
    w = onnx.numpy_helper.from_array((rng.normal(size=(3, 4)) * 9).astype('float32'), 'w')
    nodes = [h.make_node('GlobalAveragePool', ['pixels'], ['p']), h.make_node('Flatten', ['p'], ['embedding']), h.make_node('MatMul', ['embedding', 'w'], ['logits'])]
    graph = h.make_graph(nodes, 'g', [h.make_tensor_value_info('pixels', 1, ['n', 3, 32, 32])],
                         [h.make_tensor_value_info('logits', 1, ['n', 4]), h.make_tensor_value_info('embedding', 1, ['n', 3])], [w])
    network = h.make_model(graph, opset_imports=[h.make_opsetid('', 17)], ir_version=8).SerializeToString()
    photo = cv2.imencode('.jpg', rng.integers(0, 255, (60, 80, 3), 'uint8'))[1].tobytes()
    made = pack(tmp_path_factory.mktemp('model')/'extended', network, ['Vulpes vulpes', 'Meles meles', 'Sus scrofa', 'Lynx lynx'],
                Preprocess(32, 32, (.5,) * 3, (.5,) * 3), golden=photo)
    for p in (made, made.parent): p.chmod(0o755)
    return made

def inside(image, code, **more):
    env = QUIET | dict(PATH='/usr/bin:/bin', PYTHONDONTWRITEBYTECODE='1', HOME='/tmp')
    return subprocess.run([image/'bin'/'python', '-c', code], cwd='/', env=env, capture_output=True, text=True, **more)

def test_nothing_heavy_is_in_it_and_its_size_is_known(image):
    done = inside(image, f'import importlib.util as u; print([m for m in {ABSENT!r} if u.find_spec(m)])')
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
    sizes = {p.name: sum(f.stat().st_size for f in p.rglob('*') if f.is_file()) / 1e6 for p in next(image.glob('lib/python3*/site-packages')).iterdir() if p.is_dir()}
    total = sum(f.stat().st_size for f in image.rglob('*') if f.is_file() and not f.is_symlink()) / 1e6
    print(f'\n{total:.0f} MB: ' + ', '.join(f'{n} {s:.0f}' for n, s in sorted(sizes.items(), key=lambda x: -x[1])[:8]))
    assert total < 450

def test_its_packages_fit_each_other(image):
    done = subprocess.run([sys.executable, '-m', 'pip', '--python', image/'bin'/'python', 'check'], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

def test_every_library_it_needs_is_in_it_or_in_any_slim_debian(image):
    if not shutil.which('ldd'): pytest.skip('ldd is not here')
    found = set()
    for so in image.rglob('*.so*'):
        told = subprocess.run(['ldd', so], capture_output=True, text=True).stdout
        assert 'not found' not in told, f'{so}: {told}'
        found |= {Path(l.split()[0]).name.split('.so')[0] for l in told.splitlines() if '=>' not in l or str(image) not in l.split('=>')[1]}
    assert {n for n in found if n and n != 'statically'} <= SYSTEM, found - SYSTEM

def test_the_serving_modules_import_and_byte_code_is_made(image):
    modules = [f'mlproject.serving.{p.stem}' for p in sorted((ROOT/'mlproject'/'serving').glob('[a-z]*.py')) if p.stem not in ('batch', 'listing')]
    done = inside(image, 'import importlib, sys\n' + '\n'.join(f'importlib.import_module({m!r})' for m in modules) + f'\nprint([m for m in {ABSENT!r} if m in sys.modules])')
    assert done.returncode == 0 and done.stdout.strip() == '[]', done.stdout + done.stderr
    site = next(image.glob('lib/python3*/site-packages'))
    assert all(list((p.parent/'__pycache__').glob(f'{p.stem}.*.pyc')) for p in (site/'mlproject').rglob('*.py'))

def boxed(words, tmp):
    "The command as process 1 of its own, as user 10001, with nothing writable but a /tmp in memory; None where that is not allowed."
    box = ['unshare', '--mount', '--pid', '--fork', 'sh', '-ec', 'mount -t tmpfs -o mode=1777 tmpfs "$0"; mount -o remount,ro,bind /; exec setpriv '
           '--reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all "$@"', tmp]
    if os.geteuid() != 0 or not shutil.which('setpriv') or not shutil.which('unshare'): return None
    tried = subprocess.run([*box, 'sh', '-c', f'test $$ = 1 && test $(id -u) = 10001 && touch {tmp}/x && ! touch /tmp/x-{os.getpid()}'], capture_output=True)
    return None if tried.returncode else [*box, *words]

def asked(url, data=None):
    request = urllib.request.Request(url, data, {'Content-Type': 'image/jpeg'} if data else {})
    with urllib.request.urlopen(request, timeout=10) as answer: return answer.status, json.loads(answer.read() or b'null')

def processes(parent):
    "Children, and theirs."
    import psutil
    return psutil.Process(parent).children(recursive=True)

def test_it_serves_as_the_container_would(image, model, tmp_path):
    "Ready in seconds, the same answer as here, and an end with status 0 at SIGTERM, sent to process 1."
    from mlproject.export.extended import ExtendedModel
    with socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]
    words = [image/'bin'/'mlproject', 'serve', '--model', model]
    box = boxed(words, tmp_path)
    env = QUIET | dict(PATH=f'{image}/bin:/usr/bin:/bin', PYTHONDONTWRITEBYTECODE='1', HOME=str(tmp_path), TMPDIR=str(tmp_path), OMP_NUM_THREADS='1',
                       MLPROJECT_SERVING_PORT=str(port), MLPROJECT_SERVING_THREADS='1', MLPROJECT_SERVING_KEYS='/none/keys.json', MLPROJECT_SERVING_LOG='stdout')
    log, start = tmp_path.with_name('server.log'), time.monotonic()
    with open(log, 'w') as out: child = subprocess.Popen(list(map(str, box or words)), cwd='/', env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        while True:
            try:
                if asked(f'http://127.0.0.1:{port}/v2/health/ready')[0] == 200: break
            except OSError: assert child.poll() is None and time.monotonic() - start < 60, log.read_text()
            time.sleep(.05)
        print(f'\nready after {time.monotonic() - start:.1f} s' + ('' if box else ' (not boxed: no namespaces here)'))
        status, made = asked(f'http://127.0.0.1:{port}/v1/predict', (model/'golden.jpg').read_bytes())
        here = ExtendedModel.load(model).predict(model/'golden.jpg')[0]
        assert status == 200 and here.label in json.dumps(made)
        family = [child, *processes(child.pid)]
        first = family[1] if box else child  # `unshare` waits for it
        os.kill(first.pid, signal.SIGTERM)
        assert child.wait(40) == 0, log.read_text()
        assert not any(p.is_running() for p in family[1:])
    finally:
        for p in processes(child.pid) if child.poll() is None else []: p.kill()
        child.kill()
    if not box: pytest.skip('served, but not as process 1 on a read-only root: namespaces are not allowed here')
