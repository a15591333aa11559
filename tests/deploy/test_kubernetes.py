"""deploy/kubernetes/: all that the manifests name exists, selectors find what they mean, each pod's node starts with what it is given."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from node.config import Settings, load
from tests.support.compose import make_secrets, services
from tests.support.dockerfile import stages, tracked
from tests.support.nodes import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
NODE = stages()["node"]
DRAIN_BEHIND_S = 4  # docs/operations.md: a drain takes this much longer than TIDEGATE_DRAIN_SECONDS
HARD_STOP_S = 10  # HAProxy's hard-stop-after
Manifest = dict[str, Any]


def kustomization() -> Manifest:
    loaded: Manifest = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return loaded


def manifests() -> dict[tuple[str, str], Manifest]:
    """Every object that is applied, by its kind and name."""
    found: dict[tuple[str, str], Manifest] = {}
    for name in kustomization()["resources"]:
        for one in yaml.safe_load_all((FOLDER / name).read_text()):
            key = one["kind"], one["metadata"]["name"]
            assert key not in found
            found[key] = one
    return found


ALL = manifests()
SET = ALL["StatefulSet", "tidegate"]
PODS = {name: one["spec"]["template"] for (kind, name), one in ALL.items() if kind in ("StatefulSet", "Deployment")}


def container(pod: Manifest) -> Manifest:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def settings_of(pod_name: str, secrets: Path) -> Settings:
    """What the node in this pod loads. Raises `ConfigurationError` where it would not start with it."""
    node = container(PODS["tidegate"])
    (secret,) = [volume for volume in PODS["tidegate"]["spec"]["volumes"] if "secret" in volume]
    (mount,) = [one["mountPath"] for one in node["volumeMounts"] if one["name"] == secret["name"]]
    environment = dict(NODE.environment)
    for source in node["envFrom"]:
        environment |= ALL["ConfigMap", source["configMapRef"]["name"]]["data"]
    for one in node["env"]:
        environment[one["name"]] = (
            one["value"] if "value" in one else {"metadata.name": pod_name}[one["valueFrom"]["fieldRef"]["fieldPath"]]
        )
    ours = {name: value.replace(mount, str(secrets)) for name, value in environment.items() if name.startswith("TIDEGATE_")}
    return load({}, ours, serving=True)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the Secret is made of, as docs/deployment.md says."""
    folder = tmp_path_factory.mktemp("secrets")
    make_secrets(folder)
    return folder / "node"


def test_every_file_is_applied() -> None:
    """What stands in the folder is what is applied, all of it under git."""
    assert {path.name for path in FOLDER.iterdir()} == {*kustomization()["resources"], "kustomization.yaml"}
    assert {Path(path).name for path in tracked(FOLDER)} == {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("ordinal", range(SET["spec"]["replicas"]))
def test_a_node_starts_with_what_it_is_given(ordinal: int, secrets: Path) -> None:
    """Its name is the pod's, its secrets are files, its data is on its claim, and it may drain before it is killed."""
    settings = settings_of(f"tidegate-{ordinal}", secrets)
    assert settings.node_id == f"tidegate-{ordinal}"
    node = container(PODS["tidegate"])
    mounts = {one["name"]: one["mountPath"] for one in node["volumeMounts"]}
    (claim,) = SET["spec"]["volumeClaimTemplates"]
    assert mounts[claim["metadata"]["name"]] == str(settings.data)
    command, waits = node["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert PODS["tidegate"]["spec"]["terminationGracePeriodSeconds"] > int(waits) + settings.drain_seconds + DRAIN_BEHIND_S
    assert not settings.dev_issuer


def test_the_secret_is_named_and_not_here(secrets: Path) -> None:
    """No Secret is under git; the page says how to make the one that is named, of the files that are read from it."""
    assert not [key for key in ALL if key[0] == "Secret"]
    (volume,) = [one for one in PODS["tidegate"]["spec"]["volumes"] if "secret" in one]
    name = volume["secret"]["secretName"]
    page = (ROOT / "docs" / "deployment.md").read_text()
    said = re.search(rf"kubectl create secret generic {name}((?: *\\?\n? +--from-file=\S+)+)", page)
    assert said is not None
    keys = {pair.partition("=")[0] for pair in re.findall(r"--from-file=(\S+)", said[1])}
    read = {Path(one["value"]).name for one in container(PODS["tidegate"])["env"] if one["name"].endswith("_FILE")}
    assert keys == read == {path.name for path in secrets.iterdir()}


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_confined(name: str) -> None:
    """Nobody special, no right, no writing but on volumes, no token of the cluster, no variables of Services; bounded in what it takes."""
    spec, one = PODS[name]["spec"], container(PODS[name])
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert not spec["enableServiceLinks"]
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(one["resources"]) == {"requests", "limits"}
    assert spec["topologySpreadConstraints"]
    assert {mount["name"] for mount in one["volumeMounts"]} == {
        *(volume["name"] for volume in spec["volumes"]),
        *(claim["metadata"]["name"] for claim in SET["spec"]["volumeClaimTemplates"] if name == "tidegate"),
    }


def test_images_are_those_of_compose() -> None:
    """The user of ours is the image's; the proxy is the one that Compose runs; ours is named by its version, and built by nobody here."""
    assert f"{PODS['tidegate']['spec']['securityContext']['runAsUser']}:10001" == NODE.last("USER").rest
    assert container(PODS["tidegate-proxy"])["image"] == services()["haproxy"]["image"]
    (image,) = kustomization()["images"]
    assert image["name"] == container(PODS["tidegate"])["image"] == services()["n1"]["image"]
    assert f'\nversion = "{image["newTag"]}"\n' in (ROOT / "pyproject.toml").read_text()


def test_probes_ask_what_is_answered() -> None:
    """Alive and started are `/healthz`, in service is `/readyz`, at ports that the container has by that name."""
    node = container(PODS["tidegate"])
    (port,) = node["ports"]
    asked = {kind: node[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: one["path"] for kind, one in asked.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {one["port"] for one in asked.values()} == {port["name"]}
    assert str(port["containerPort"]) == NODE.environment["TIDEGATE_PORT"]
    proxy = container(PODS["tidegate-proxy"])
    ports = {one["name"]: one["containerPort"] for one in proxy["ports"]}
    text = ALL["ConfigMap", "tidegate-proxy"]["data"]["haproxy.cfg"]
    for kind in ("liveness", "readiness"):
        get = proxy[f"{kind}Probe"]["httpGet"]
        assert f"bind :{ports[get['port']]}\n    monitor-uri {get['path']}\n" in text
    assert f"bind :{ports['http']}\n" in text


def test_the_proxy_ends_in_time() -> None:
    """What is open when it is asked to stop has hard-stop-after, before it is killed."""
    text = ALL["ConfigMap", "tidegate-proxy"]["data"]["haproxy.cfg"]
    assert f"hard-stop-after {HARD_STOP_S}s" in text
    waits = int(container(PODS["tidegate-proxy"])["lifecycle"]["preStop"]["exec"]["command"][1])
    assert PODS["tidegate-proxy"]["spec"]["terminationGracePeriodSeconds"] > waits + HARD_STOP_S


def test_selectors_find_what_they_mean() -> None:
    """Each selects the pods of one of the two, by labels that its template has."""
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    found: dict[tuple[str, str], str] = {}
    for (kind, name), one in ALL.items():
        spec = one.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            (found[kind, name],) = [pod for pod, has in labels.items() if wanted.items() <= has.items()]
    assert found == {
        ("Service", "tidegate-nodes"): "tidegate",
        ("StatefulSet", "tidegate"): "tidegate",
        ("Service", "tidegate"): "tidegate-proxy",
        ("Deployment", "tidegate-proxy"): "tidegate-proxy",
        ("PodDisruptionBudget", "tidegate"): "tidegate",
        ("PodDisruptionBudget", "tidegate-proxy"): "tidegate-proxy",
        ("NetworkPolicy", "tidegate"): "tidegate",
        ("NetworkPolicy", "tidegate-proxy"): "tidegate-proxy",
    }
    for name, pod in PODS.items():
        for spread in pod["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"].items() <= labels[name].items()


def test_every_name_is_there() -> None:
    """What is referred to by its name is among the manifests; the proxy looks for pods where the headless Service has them."""
    assert ("ServiceAccount", PODS["tidegate"]["spec"]["serviceAccountName"]) in ALL
    headless = ALL["Service", SET["spec"]["serviceName"]]["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"]
    for name in ("tidegate-nodes", "tidegate"):
        spec = ALL["Service", name]["spec"]
        (pod,) = [one for one in PODS.values() if spec["selector"].items() <= one["metadata"]["labels"].items()]
        assert {port["targetPort"] for port in spec["ports"]} <= {port["name"] for port in container(pod)["ports"]}
    (volume,) = PODS["tidegate-proxy"]["spec"]["volumes"]
    assert "haproxy.cfg" in ALL["ConfigMap", volume["configMap"]["name"]]["data"]
    servers = re.findall(r'server (\S+) "(\S+):8001"', ALL["ConfigMap", "tidegate-proxy"]["data"]["haproxy.cfg"])
    pods = [f"{SET['metadata']['name']}-{number}" for number in range(SET["spec"]["replicas"])]
    assert servers == [(pod, f"{pod}.{SET['spec']['serviceName']}.${{NAMESPACE}}.svc.cluster.local") for pod in pods]


def test_policies_let_through_what_is_spoken() -> None:
    """A way in at each container's port and no other; a way out to names, brokers, a key set, and from the proxy to nodes alone."""
    for name, pod in PODS.items():
        policy = ALL["NetworkPolicy", name]["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        into = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert into == {port["containerPort"] for port in container(pod)["ports"]}
    out = {
        name: {port["port"] for rule in ALL["NetworkPolicy", name]["spec"]["egress"] for port in rule["ports"]} for name in PODS
    }
    assert out == {"tidegate": {53, 443, 5671, 5672}, "tidegate-proxy": {53, 8001}}


def test_one_at_a_time() -> None:
    """Maintenance takes one pod of each kind at most, and both kinds have more than one."""
    for name in PODS:
        assert ALL["PodDisruptionBudget", name]["spec"]["maxUnavailable"] == 1
    assert (SET["spec"]["replicas"], ALL["Deployment", "tidegate-proxy"]["spec"]["replicas"]) == (3, 2)
