"""JSON schema of KServe's two resources, read from the models in KServe's wheel without importing it (its pins exclude ours):
    pip download --no-deps kserve==0.21.0 && python deploy/kserve/schema.py kserve-0.21.0-py3-none-any.whl
What KServe takes from Kubernetes stays a reference; tests/test_deploy.py joins it to the schemas of `kubernetes-validate`."""
import ast, json, re, sys, zipfile
from pathlib import Path

ROOTS = ('V1beta1InferenceService', 'V1alpha1ServingRuntime')
PLAIN = dict(str={'type': 'string'}, int={'type': 'integer'}, bool={'type': 'boolean'}, float={'type': 'number'}, object={}, datetime={'type': 'string'})
QUANTITY = {'oneOf': [{'type': 'string'}, {'type': 'number'}]}  # ResourceQuantity, MetricQuantity: text or number
ELSEWHERE = dict(V1ObjectMeta='io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta')
ANY = ('V1Time', 'V1alpha1WorkerSpec')  # not described in the wheel; we use neither

def of_kubernetes(name: str) -> str:
    "V1Container -> io.k8s.api.core.v1.Container; K8sIoApiAppsV1X -> io.k8s.api.apps.v1.X"
    if m := re.fullmatch(r'K8sIoApi(\w+?)(V\d\w*?)([A-Z]\w+)', name): return f'io.k8s.api.{m[1].lower()}.{m[2].lower()}.{m[3]}'
    return ELSEWHERE.get(name) or f'io.k8s.api.core.v1.{name.removeprefix("V1")}'

def schema_of(kind: str, own: dict) -> dict:
    "A type as KServe's models spell it: str, list[X], dict(str, X), V1Container, V1beta1ModelSpec."
    if m := re.fullmatch(r'list\[(.+)\]', kind): return {'type': 'array', 'items': schema_of(m[1], own)}
    if m := re.fullmatch(r'dict\(str, (.+)\)', kind): return {'type': 'object', 'additionalProperties': schema_of(m[1], own)}
    if kind in PLAIN: return PLAIN[kind]
    if kind.endswith('Quantity'): return QUANTITY
    if kind in ANY or kind.startswith('Knative'): return {}
    return {'$ref': f'#/$defs/{kind if kind in own else of_kubernetes(kind)}'}

def classes(wheel: Path) -> dict[str, tuple[dict, dict, set]]:  # class -> ({attribute: type}, {attribute: JSON name}, required attributes)
    "The models of a wheel, from their source."
    found = {}
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            if not re.fullmatch(r'kserve/models/v1\w+\.py', name): continue
            text = z.read(name).decode()
            for c in (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)):
                said = {t.id: ast.literal_eval(n.value) for n in c.body if isinstance(n, ast.Assign) for t in n.targets
                        if t.id in ('openapi_types', 'attribute_map')}
                required = set(re.findall(r'client_side_validation and (\w+) is None', text))
                if len(said) == 2: found[c.name] = (said['openapi_types'], said['attribute_map'], required)
    return found

def main(wheel: Path) -> dict:
    own, todo, made = classes(wheel), list(ROOTS), {}
    while todo:
        name = todo.pop()
        if name in made: continue
        types, names, required = own[name]
        made[name] = {'type': 'object', 'additionalProperties': False, 'properties': {names[a]: schema_of(t, own) for a, t in sorted(types.items()) if a != 'status'}}
        if required: made[name]['required'] = sorted(names[a] for a in required)
        todo += [n for a, t in types.items() if a != 'status' for n in re.findall(r'\w+', t) if n in own]
    return dict(source=wheel.name, licence='Apache-2.0', roots=dict(InferenceService=ROOTS[0], ServingRuntime=ROOTS[1]), **{'$defs': dict(sorted(made.items()))})

if __name__ == '__main__':
    out = Path(__file__).with_name('schema.json')
    out.write_text(json.dumps(main(Path(sys.argv[1])), indent=1, sort_keys=True) + '\n')
    print(out, out.stat().st_size, 'bytes')
