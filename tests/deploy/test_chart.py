"""What an installation of the chart makes."""

import functools
import json

import helm_python
import kubernetes_validate
import pytest
import yaml

from rendering import CHART, GRAPH, SERVICES, refusal, release, render, values

ALL = pytest.mark.parametrize("name", ["minimal", "full"])
# The oldest version that the chart allows, and the newest that the schemas know.
KUBERNETES = ["1.29.0", "1.35.0"]
# Their definitions are installed with their controllers.
CUSTOM = {"cert-manager.io/v1", "gateway.networking.k8s.io/v1", "monitoring.coreos.com/v1"}


@ALL
def test_helm_finds_nothing_wrong(name):
    linted = helm_python.lint(str(CHART), values(name), strict=True)
    assert [m for m in linted["messages"] if m["severity"] > 1] == []


@ALL
@pytest.mark.parametrize("version", KUBERNETES)
def test_s1_23_s2_40_kubernetes_accepts_every_object(name, version):
    for manifest in release(name).objects:
        if manifest["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


@ALL
def test_s0_26_every_kind_of_service_is_a_workload_of_its_own(name):
    for service in SERVICES:
        workload = release(name).workload(service)
        # Scaled alone, and upgraded alone: a pod changes only when its own settings or image do.
        annotations = release(name).pod(service)["metadata"]["annotations"]
        assert len(annotations["checksum/settings"]) == 64
        assert workload["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == service


def test_a_change_of_one_services_settings_restarts_that_service_only():
    changed = render(values("minimal", worker__settings={"worker": {"probe_retries": 5}}))
    before = {s: release("minimal").pod(s) for s in SERVICES}
    after = {
        o["metadata"]["labels"]["app.kubernetes.io/component"]: o["spec"]["template"]
        for o in changed
        if o["kind"] == "Deployment"
    }
    assert [s for s in SERVICES if before[s] != after[s]] == ["worker"]


@ALL
def test_s0_24_the_migrator_succeeds_before_anything_else_changes(name):
    hooks = [o for o in release(name).objects if "helm.sh/hook" in o["metadata"].get("annotations", {})]
    for hook in hooks:
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        # The finished one stays, to be looked at, until the next one comes.
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"
    weight = {o["kind"]: int(o["metadata"]["annotations"]["helm.sh/hook-weight"]) for o in hooks}
    assert set(weight) == {"Job", "ConfigMap", "ServiceAccount", "NetworkPolicy"}
    assert all(weight[kind] < weight["Job"] for kind in weight if kind != "Job")
    job = release(name).workload("migrator")["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    wait = release(name).settings("migrator")["wait"]["limit_seconds"]
    assert wait < job["activeDeadlineSeconds"], "it gives up by itself, with a message, before it is killed"


def test_the_migrators_job_reads_only_what_hooks_made():
    spec = release("minimal").pod("migrator")["spec"]
    hooked = {
        (o["kind"], o["metadata"]["name"])
        for o in release("minimal").objects
        if "helm.sh/hook" in o["metadata"].get("annotations", {})
    }
    assert ("ServiceAccount", spec["serviceAccountName"]) in hooked
    maps = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v]
    assert maps and all(("ConfigMap", name) in hooked for name in maps)


@ALL
@pytest.mark.parametrize("service", [*SERVICES, "migrator"])
def test_every_pod_meets_the_restricted_standard(name, service):
    spec = release(name).pod(service)["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["automountServiceAccountToken"] is False
    # Kubernetes would name its services in variables that begin like the settings.
    assert spec["enableServiceLinks"] is False
    assert not any(spec.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC"))
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "projected", "emptyDir"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    account = release(name).one("ServiceAccount", service)
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False


@ALL
@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_the_admin_port(name, service):
    (container,) = release(name).pod(service)["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["admin"] == GRAPH["ports"]["admin"]
    paths = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert paths["startup"] == paths["liveness"] == {"path": "/livez", "port": "admin"}
    assert paths["readiness"] == {"path": "/readyz", "port": "admin"}


@ALL
@pytest.mark.parametrize("service", SERVICES)
def test_a_replica_has_the_time_to_leave_and_to_drain(name, service):
    process = release(name).settings(service)["process"]
    needed = process["drain_delay_ms"] / 1000 + process["drain_grace_seconds"]
    assert release(name).pod(service)["spec"]["terminationGracePeriodSeconds"] > needed
    probe = release(name).pod(service)["spec"]["containers"][0]["readinessProbe"]
    unready = probe["periodSeconds"] * probe["failureThreshold"]
    assert process["drain_delay_ms"] / 1000 > unready, "balancers hear of it while it still accepts"


@ALL
@pytest.mark.parametrize("service", SERVICES)
def test_s2_30_a_rollout_and_a_node_drain_take_one_replica_at_a_time(name, service):
    workload = release(name).workload(service)
    if workload["kind"] == "Deployment":
        assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = release(name).one("PodDisruptionBudget", service)["spec"]
    assert budget["selector"] == workload["spec"]["selector"]
    assert budget["maxUnavailable"] in (1, "25%")
    # A budget that allows no eviction would stop every upgrade of the nodes.
    assert "minAvailable" not in budget


@ALL
@pytest.mark.parametrize("service", SERVICES)
def test_s0_30_replicas_spread_over_zones_and_nodes(name, service):
    workload = release(name).workload(service)
    spec = workload["spec"]["template"]["spec"]
    (zones,) = spec["topologySpreadConstraints"]
    assert zones["topologyKey"] == "topology.kubernetes.io/zone"
    assert zones["labelSelector"] == workload["spec"]["selector"]
    rollout = "controller-revision-hash" if workload["kind"] == "StatefulSet" else "pod-template-hash"
    assert zones["matchLabelKeys"] == [rollout]
    apart = spec["affinity"]["podAntiAffinity"]
    if name == "full":
        (term,) = apart["requiredDuringSchedulingIgnoredDuringExecution"]
    else:
        term = apart["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"] == workload["spec"]["selector"]


def test_s3_49_two_of_everything_share_one_redis():
    assert {s: release("minimal").workload(s)["spec"]["replicas"] for s in SERVICES} == dict.fromkeys(SERVICES, 2)
    for service in SERVICES:
        assert release("minimal").settings(service)["coordination"] == {
            "redis_url": {"file": "/run/secrets/portico/redis-url"}
        }
        assert secrets("minimal", service)["redis-url"] == ("portico-redis", f"{service}-url")


def test_s0_27_an_autoscaler_takes_the_place_of_a_number_of_replicas():
    workload = release("full").workload("gateway")
    assert "replicas" not in workload["spec"]
    scaler = release("full").one("HorizontalPodAutoscaler", "gateway")["spec"]
    assert scaler["scaleTargetRef"]["kind"] == workload["kind"] == "StatefulSet"
    assert scaler["scaleTargetRef"]["name"] == workload["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 12)


def test_the_audit_spool_can_outlive_its_pod():
    (claim,) = release("full").workload("gateway")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    kept = release("full").workload("gateway")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    mounts = release("full").pod("gateway")["spec"]["containers"][0]["volumeMounts"]
    assert claim["metadata"]["name"] in [m["name"] for m in mounts if m["mountPath"] == "/var/lib/portico"]
    data = [v for v in release("minimal").pod("gateway")["spec"]["volumes"] if v["name"] == "data"]
    assert data == [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}]


def secrets(name, service):
    """The files of a pod's secrets: path → (secret, key)."""
    spec = release(name).pod(service)["spec"]
    (volume,) = [v["projected"] for v in spec["volumes"] if "projected" in v]
    assert volume["defaultMode"] == 0o440
    return {
        item["path"]: (source["secret"]["name"], item["key"])
        for source in volume["sources"]
        for item in source["secret"]["items"]
    }


def test_a_service_reads_the_secrets_of_its_own_edges_and_no_others():
    common = {"keys.json", "redis-url", "tls.crt", "tls.key", "ca.crt"}
    read = {service: set(secrets("minimal", service)) for service in [*SERVICES, "migrator"]}
    assert read == {
        "gateway": common,
        "worker": common,
        "auth-server": common | {"database-url"},
        "registry": common | {"database-url"},
        "migrator": {"auth-server-url", "registry-url", "administrator-password"},
    }
    assert secrets("full", "registry")["database-url"] == ("postgres", "reg")
    assert secrets("full", "auth-server")["database-url"] == ("postgres", "auth")
    assert secrets("full", "migrator")["registry-url"] == ("postgres-owner", "reg")
    assert secrets("full", "registry")["postgres-ca.crt"] == ("postgres-ca", "ca.crt")
    assert "postgres-ca.crt" not in secrets("full", "gateway")
    certificates = {secrets("full", service)["tls.key"][0] for service in SERVICES}
    assert certificates == {f"{service}-tls" for service in SERVICES}


@ALL
@pytest.mark.parametrize("service", [*SERVICES, "migrator"])
def test_every_file_that_the_settings_name_is_mounted(name, service):
    mounted = {f"/run/secrets/portico/{path}" for path in secrets(name, service)}

    def files(table):
        for value in table.values():
            if isinstance(value, dict):
                yield from files(value)
            elif isinstance(value, str) and value.startswith("/run/secrets/"):
                yield value

    named = set(files(release(name).settings(service)))
    assert named <= mounted
    # The CA of Postgres is named in the URL.
    assert mounted - named <= {"/run/secrets/portico/postgres-ca.crt"}


@ALL
def test_s3_60_no_secret_is_in_the_rendered_objects(name):
    assert release(name).all("Secret") == []


def test_s0_28_certificates_name_the_services():
    certificates = {o["spec"]["secretName"]: o["spec"] for o in release("minimal").all("Certificate")}
    authority = certificates.pop("portico-ca")
    assert authority["isCA"] is True
    for service in SERVICES:
        spec = certificates.pop(secrets("minimal", service)["tls.crt"][0])
        assert spec["uris"] == [f"spiffe://portico/{service}"]
        assert set(spec["usages"]) == {"digital signature", "server auth", "client auth"}
        assert spec["privateKey"] == {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}
        assert spec["issuerRef"]["name"] == "portico-ca"
    assert certificates == {}
    assert release("full").all("Certificate", "Issuer") == []


def test_peers_are_found_while_nobody_is_ready_yet():
    for service, node in GRAPH["services"].items():
        for peer in node.get("peers", []):
            address = release("minimal").settings(service)["peers"][peer.replace("-", "_")]
            host, _, port = address.partition(":")
            found = release("minimal").one("Service", f"{peer}-internal")
            assert (host, int(port)) == (found["metadata"]["name"], found["spec"]["ports"][0]["port"])
            # The name resolves to every replica, ready or not: auth-server and registry wait for each other.
            assert found["spec"]["clusterIP"] == "None"
            assert found["spec"]["publishNotReadyAddresses"] is True
            assert found["spec"]["selector"] == release("minimal").workload(peer)["spec"]["selector"]["matchLabels"]


@ALL
def test_images_are_of_a_version(name):
    images = {s: release(name).pod(s)["spec"]["containers"][0]["image"] for s in [*SERVICES, "migrator"]}
    tag = {"minimal": "0.1.0", "full": "1.2.3"}[name]
    for service, image in images.items():
        if (name, service) == ("full", "gateway"):
            assert image.startswith("registry.example.org/portico/gateway@sha256:")
        else:
            assert image == f"registry.example.org/portico/{service}:{tag}"


def test_metrics_are_read_from_every_replica():
    monitor = release("full").one("ServiceMonitor", "")["spec"]
    service = release("full").one("Service", "metrics")
    labels = service["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["endpoints"] == [{"port": "admin", "path": "/metrics", "interval": "15s"}]
    assert service["spec"]["clusterIP"] == "None"


def test_the_notes_say_what_to_do_next():
    files = helm_python.Chart.load(str(CHART)).render(values("minimal"), name="portico", namespace="prod")
    (notes,) = [text for path, text in files.items() if path.endswith("NOTES.txt")]
    for said in ["https://portico.example.org", "portico login", "networkPolicy.ingressFrom is empty", "trustedProxies is empty"]:
        assert said in notes
    for name in ["metricsFrom", "telemetry.to"]:
        assert name not in notes


def test_the_notes_tell_what_the_policies_would_keep_from_working():
    given = values("minimal", telemetry__otlpEndpoint="http://collector:4317", serviceMonitor__enabled=True)
    files = helm_python.Chart.load(str(CHART)).render(given, name="portico", namespace="prod")
    (notes,) = [text for path, text in files.items() if path.endswith("NOTES.txt")]
    assert "networkPolicy.metricsFrom is empty" in notes
    assert "networkPolicy.telemetry.to is empty: nothing reaches http://collector:4317" in notes


def test_what_has_no_default_is_asked_for_at_once():
    said = refusal({})
    for name in [
        "publicOrigin",
        "image.registry",
        "keys.existingSecret",
        "postgres.existingSecret",
        "redis.existingSecret",
        "administrator.existingSecret",
    ]:
        assert f"{name} is not set: the " in said


REFUSED = {
    "an unknown name": (dict(gatway__replicas=2), "gatway"),
    "an unknown name inside": (dict(gateway__replica=2), "replica"),
    "a path in the origin": (dict(publicOrigin="https://portico.example.org/mcp"), "publicOrigin"),
    "an origin without TLS": (dict(publicOrigin="http://portico.example.org"), "publicOrigin"),
    "no replica": (dict(worker__replicas=0), "worker/replicas"),
    "a tag that moves": (dict(image__tag="latest"), "image/tag"),
    "a digest that is none": (dict(gateway__image={"digest": "latest"}), "digest"),
    "a budget that forbids evictions": (
        dict(registry__podDisruptionBudget={"maxUnavailable": 0}),
        "registry/podDisruptionBudget/maxUnavailable",
    ),
    "a size without a unit": (dict(gateway__storage={"kind": "ephemeral", "size": "5"}), "gateway/storage/size"),
    "certificates from nowhere": (dict(tls__certManager={"enabled": False}), "tls.existingSecrets."),
    "an issuer without a name": (dict(tls__certManager={"enabled": True, "createIssuer": False}), "issuerRef.name"),
    "a route to no gateway": (dict(gatewayApi={"enabled": True, "parentRefs": []}), "gatewayApi"),
    "a peer with a typing error": (dict(networkPolicy__ingressFrom=[{"podSelectr": {}}]), "podSelectr"),
    "a setting that the chart makes": (dict(gateway__settings={"listen": "0.0.0.0:80"}), "gateway.settings.listen"),
    "such a setting inside a section": (
        dict(registry__settings={"database": {"url": "postgres://…"}}),
        "registry.settings.database.url",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_values_are_refused_with_their_name(what):
    changes, named = REFUSED[what]
    assert named in refusal(values("minimal", **changes)).replace("'/", "'")


@functools.cache
def described():
    return json.loads((CHART / "values.schema.json").read_text())


def test_the_schema_describes_exactly_the_values_that_there_are():
    def compare(found, schema, path):
        if "$ref" in schema:
            schema = described()["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        if "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, path
        optional = {"global", "ephemeral-storage", "cpu", "ports", "to"}
        assert set(found) <= set(schema["properties"]), path
        assert set(schema["properties"]) - set(found) <= optional, path
        for name, value in found.items():
            inner = schema["properties"][name]
            assert "description" in inner or "$ref" in inner or path.endswith(("requests", "limits")), f"{path}.{name}"
            if isinstance(value, dict):
                compare(value, inner, f"{path}.{name}")

    compare(yaml.safe_load((CHART / "values.yaml").read_text()), described(), "values")
