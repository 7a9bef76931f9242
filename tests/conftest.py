"""What several tests share: a tiny build of the real pipeline, a copy of the repository, and where the real photos are."""
import contextlib, io, os, secrets, shutil, socket, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get('MLPROJECT_SHARED_DATA', ROOT.parent/'shared'/'data'))
QUIET = dict(DO_NOT_TRACK='true', MLFLOW_DISABLE_TELEMETRY='true', PLOOMBER_STATS_ENABLED='false', MLPROJECT_DOWNLOADS='no')
TINY = dict(survey_species='6', survey_photos='14', weights='scratch', backbone='shufflenet_v2_x0_5', epochs='2', image_size='32',
            precision='float32', bootstrap='100')

os.environ.update(QUIET)

@contextlib.contextmanager
def set_aside():
    "Let code change the folder, the environment and the command line, and put them back."
    cwd, env, argv = Path.cwd(), dict(os.environ), sys.argv[:]
    try: yield
    finally:
        os.chdir(cwd)
        os.environ.clear(); os.environ.update(env)
        sys.argv[:] = argv

def run_here(out: Path, **chosen) -> str:
    "`mlproject run` in this process (so that coverage sees it); what it printed."
    from mlproject.cli import run_pipeline
    told = io.StringIO()
    with set_aside(), contextlib.redirect_stdout(told):
        os.environ |= dict(MLPROJECT_TRACKING_URI=f'sqlite:///{out.parent}/mlflow.db', MLPROJECT_CACHE_DIR=str(out.parent/'cache'))
        run_pipeline(TINY | chosen | dict(out=str(out)))
    return told.getvalue()

@pytest.fixture(scope='session')
def built(tmp_path_factory):
    "A finished tiny build: (folder of products, what the run printed)."
    out = tmp_path_factory.mktemp('tiny')/'build'
    return out, run_here(out)

def copy_repository(to: Path) -> Path:
    "The files that git knows or would take, without history."
    names = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split('\0')):
        if (ROOT/name).is_file():
            (to/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT/name, to/name)
    subprocess.run(['git', 'init', '-q'], cwd=to, check=True)
    return to

def environment(folder: Path) -> dict:
    "Variables for commands run in a copy: its package, this Python's programs."
    return os.environ | QUIET | dict(PYTHONPATH=str(folder), PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

@pytest.fixture(scope='session')
def postgres(tmp_path_factory):
    "A PostgreSQL of our own on a free port: its URL."
    found = sorted(Path('/usr/lib/postgresql').glob('*/bin')) if not shutil.which('initdb') else [Path(shutil.which('initdb')).parent]
    if not found: pytest.skip('PostgreSQL is not installed')
    pytest.importorskip('psycopg')
    base = Path('/tmp') / f'mlproject-pg-{os.getpid()}'
    base.mkdir(mode=0o777)
    user = []
    if os.geteuid() == 0:
        if subprocess.run(['id', 'postgres'], capture_output=True).returncode: pytest.skip('root cannot run PostgreSQL and there is no user postgres')
        shutil.chown(base, 'postgres')
        user = [shutil.which('runuser', path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin'), '-u', 'postgres', '--']
        if not user[0]: pytest.skip('root cannot run PostgreSQL and there is no runuser')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    run = lambda *words: subprocess.run([*user, *map(str, words)], check=True, capture_output=True, cwd='/')
    try:
        run(found[-1] / 'initdb', '-D', base / 'data', '-U', 'field', '--auth=trust', '--no-sync')
        run(found[-1] / 'pg_ctl', '-D', base / 'data', '-w', '-l', base / 'log', '-o', f'-p {port} -c listen_addresses=127.0.0.1 -k {base} -c fsync=off', 'start')
        yield f'postgresql://field:secret@127.0.0.1:{port}/postgres'
    finally:
        subprocess.run([*user, str(found[-1] / 'pg_ctl'), '-D', str(base / 'data'), '-m', 'immediate', 'stop'], capture_output=True, cwd='/')
        shutil.rmtree(base, ignore_errors=True)

@pytest.fixture(params=['sqlite', 'postgresql'])
def state_url(request, tmp_path):
    "An empty database of each kind."
    if request.param == 'sqlite': return f'sqlite:///{tmp_path}/state.db'
    import psycopg
    server, name = request.getfixturevalue('postgres'), f'state_{secrets.token_hex(4)}'
    with psycopg.connect(server, autocommit=True) as c: c.execute(f'create database {name}')
    return server.rpartition('/')[0] + '/' + name
