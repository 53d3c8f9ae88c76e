"""The CloudFormation templates for ECS Fargate."""

import re
import subprocess

import pytest

import programs
from cloudformation import ECS, Stack
from rendering import GRAPH, SERVICES
from test_network import EDGES, INTERNAL, OUTSIDE, PUBLIC, STORES

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
NETWORK = Stack("network.yaml", "portico-network", S3PrefixList="pl-1")
PLATFORM = Stack("platform.yaml", "portico", Certificate="arn:aws:acm:eu-west-1:123456789012:certificate/1")
DATABASE = {"auth-server", "registry"}


def service(name):
    stores = {"DatabaseUrl": f"{ARN}own", "OtherDatabaseUrl": f"{ARN}other", "DatabaseCa": f"{ARN}database-ca"}
    return Stack(
        "service.yaml",
        f"portico-{name}",
        Service=name,
        Images="registry.example.org/portico",
        Version="1.2.3",
        FilesImage="registry.example.org/portico/busybox:1.37.0",
        PublicOrigin="https://portico.example.org",
        KeyRing=f"{ARN}keys",
        Identity=f"{ARN}{name}",
        RedisUrl=f"{ARN}redis",
        **(stores | {"AdministratorPassword": f"{ARN}administrator"} if name in DATABASE else {}),
    )


STACKS = {name: service(name) for name in SERVICES}


def containers(name):
    return {c["Name"]: c for c in STACKS[name].one("AWS::ECS::TaskDefinition")["ContainerDefinitions"]}


def test_s1_24_cfn_lint_finds_nothing():
    found = subprocess.run(["cfn-lint", *sorted(ECS.glob("*.yaml"))], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_s0_17_a_fargate_task_has_its_files_its_migrator_and_its_service(name):
    task = STACKS[name].one("AWS::ECS::TaskDefinition")
    assert task["RequiresCompatibilities"] == ["FARGATE"] and task["NetworkMode"] == "awsvpc"
    expected = ["files", "migrator", "service"] if name in DATABASE else ["files", "service"]
    assert list(containers(name)) == expected
    assert [c for c in expected if containers(name)[c]["Essential"]] == ["service"]
    assert containers(name)["service"]["Image"] == f"registry.example.org/portico/{name}:1.2.3"


@pytest.mark.parametrize("name", SERVICES)
def test_s0_24_the_service_starts_after_the_migrators_success(name):
    after = {d["ContainerName"]: d["Condition"] for d in containers(name)["service"]["DependsOn"]}
    assert after["files"] == "SUCCESS"
    assert after.get("migrator") == ("SUCCESS" if name in DATABASE else None)
    if name in DATABASE:
        assert containers(name)["migrator"]["DependsOn"] == [{"ContainerName": "files", "Condition": "SUCCESS"}]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_has_privileges(name):
    for container in containers(name).values():
        assert container["ReadonlyRootFilesystem"] is True
        assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
        assert not container.get("Privileged")
        # Root's number without a capability: for the folder that Fargate gives to root.
        assert container["User"] == ("0:10001" if container["Name"] == "files" else "10001:10001")
        assert container["LogConfiguration"]["LogDriver"] == "awslogs"
        assert not container["Image"].endswith(":latest")
    assert "TaskRoleArn" not in STACKS[name].one("AWS::ECS::TaskDefinition")


@pytest.mark.parametrize("name", SERVICES)
def test_a_task_has_the_time_to_drain_and_is_replaced_only_when_it_is_dead(name):
    found = containers(name)["service"]
    environment = {e["Name"]: e["Value"] for e in found["Environment"]}
    delay = int(environment["PORTICO_PROCESS__DRAIN_DELAY_MS"]) / 1000
    grace = programs.schema(name)["$defs"]["ProcessSettings"]["properties"]["drain_grace_seconds"]["default"]
    assert delay + grace < found["StopTimeout"] <= 120
    assert found["HealthCheck"]["Command"] == ["CMD", "/app", "health", "--live"]
    deployment = STACKS[name].one("AWS::ECS::Service")["DeploymentConfiguration"]
    assert deployment["MinimumHealthyPercent"] == 100
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}


@pytest.mark.parametrize("name", SERVICES)
def test_s3_60_secrets_come_by_reference_and_only_those_that_are_needed(name):
    read = {s["ValueFrom"].split("::")[0].removeprefix(ARN).split(":")[0] for c in containers(name).values() for s in c.get("Secrets", [])}
    expected = {"keys", name, "redis"} | ({"own", "other", "database-ca", "administrator"} if name in DATABASE else set())
    assert read == expected
    role = STACKS[name].one("AWS::IAM::Role")
    (secrets,) = [s for p in role["Policies"] if p["PolicyName"] == "secrets" for s in p["PolicyDocument"]["Statement"]]
    assert secrets["Action"] == "secretsmanager:GetSecretValue"
    assert {arn.removeprefix(ARN) for arn in secrets["Resource"]} == expected
    for container in containers(name).values():
        for variable in container.get("Environment", []):
            assert not re.search("PASSWORD|SECRET|URL$|KEY_RING", variable["Name"]), variable
    service_secrets = {s["Name"] for s in containers(name)["service"]["Secrets"]}
    assert "PORTICO_ADMINISTRATOR__PASSWORD" not in service_secrets


@pytest.mark.parametrize("name", SERVICES)
def test_what_starts_a_task_may_do_what_that_takes_and_no_more(name):
    role = STACKS[name].one("AWS::IAM::Role")
    assert "ManagedPolicyArns" not in role
    statements = [s for p in role["Policies"] for s in p["PolicyDocument"]["Statement"]]
    actions = {a for s in statements for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    assert actions == {
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "secretsmanager:GetSecretValue",
    }
    # The only one that AWS gives for everything or for nothing.
    assert [s["Action"] for s in statements if s["Resource"] == "*"] == ["ecr:GetAuthorizationToken"]


def test_the_registrys_tasks_start_without_anything_from_outside_the_vpc():
    reached = {
        r.get("DestinationPrefixListId") or r.get("DestinationSecurityGroupId")
        for r in NETWORK.of("AWS::EC2::SecurityGroupEgress").values()
        if r["GroupId"] == "<RegistryGroup>"
    }
    assert reached == {"pl-1", "<AuthServerGroup>", "<PostgresGroup>", "<RedisGroup>", "<EndpointsGroup>"}
    # A default would be an image in somebody else's registry, which they cannot pull.
    assert "Default" not in STACKS["registry"].template["Parameters"]["FilesImage"]


@pytest.mark.parametrize("name", SERVICES)
def test_s3_43_every_variable_names_a_setting_of_its_program(name):
    for container, program in (("service", name), ("migrator", "migrator")):
        if container in containers(name):
            found = containers(name)[container]
            variables = {v["Name"]: v for v in [*found.get("Environment", []), *found.get("Secrets", [])]}
            for path in programs.from_environment(variables):
                assert programs.known(program, path), f"{program}: {'.'.join(path)}"


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_that_a_setting_names_is_written(name):
    script = containers(name)["files"]["Command"][0]
    written = {f"/run/portico/{file}" for file in re.findall(r"put (\S+) \"", script)}
    environment = {e["Name"]: e["Value"] for e in containers(name)["service"]["Environment"]}
    assert {value for value in environment.values() if value.startswith("/run/")} <= written
    variables = set(re.findall(r"\$\{?([A-Z_]+)", script))
    given = {s["Name"] for s in containers(name)["files"]["Secrets"]}
    assert given <= variables
    assert variables - given <= {"POSTGRES_CA"}
    mounts = {m["ContainerPath"]: m.get("ReadOnly", False) for m in containers(name)["service"]["MountPoints"]}
    assert mounts == {"/run/portico": True, "/var/lib/portico": False}


@pytest.mark.parametrize("name", SERVICES)
def test_the_files_are_for_the_services_group_alone(name, tmp_path):
    script = containers(name)["files"]["Command"][0].replace("/run/portico", str(tmp_path))
    secrets = {s["Name"]: f"value of {s['Name']}" for s in containers(name)["files"]["Secrets"]}
    for _ in range(2):
        subprocess.run([*containers(name)["files"]["EntryPoint"], script], env={"PATH": "/usr/bin:/bin"} | secrets, check=True)
    found = {path.name: path for path in tmp_path.iterdir()}
    assert found["keys.json"].read_text() == "value of KEY_RING\n"
    assert ("postgres-ca.pem" in found) == (name in DATABASE)
    # The mode that the key ring may have when it is root's.
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o640}


def group(reference):
    """The component of a security group: <AuthServerGroup> is auth-server."""
    name = re.fullmatch(r"<(\w+)Group>", reference).group(1)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def rules(kind, peer):
    """(group, peer, port) of every rule between security groups."""
    found = NETWORK.of(f"AWS::EC2::SecurityGroup{kind}").values()
    for rule in found:
        assert rule["FromPort"] == rule["ToPort"] and rule["IpProtocol"] == "tcp"
    return {(group(r["GroupId"]), group(r[peer]), r["FromPort"]) for r in found if peer in r}


def test_s2_38_s3_60_security_groups_allow_the_edges_of_the_graph_and_none_more():
    expected = {(caller, peer, INTERNAL) for caller, peer in EDGES}
    ports = {"postgres": 5432, "redis": 6379}
    expected |= {(s, store, ports[store]) for s, store in STORES if s != "migrator"}
    expected |= {(s, "endpoints", 443) for s in SERVICES}
    public = {s for s in SERVICES if GRAPH["services"][s].get("public")}
    expected |= {("balancer", s, PUBLIC) for s in public}
    assert rules("Egress", "DestinationSecurityGroupId") == expected
    assert {(b, a, port) for a, b, port in rules("Ingress", "SourceSecurityGroupId")} == expected


def test_s2_38_only_the_load_balancer_is_reached_from_outside():
    from_outside = {
        (group(r["GroupId"]), r["FromPort"])
        for r in NETWORK.of("AWS::EC2::SecurityGroupIngress").values()
        if "CidrIp" in r
    }
    assert from_outside == {("balancer", 443), ("balancer", 80)}
    to_outside = {
        (group(r["GroupId"]), r["FromPort"])
        for r in NETWORK.of("AWS::EC2::SecurityGroupEgress").values()
        if "CidrIp" in r
    }
    assert to_outside == {(s, 443) for s in OUTSIDE}
    for found in NETWORK.of("AWS::EC2::SecurityGroup").values():
        assert found["SecurityGroupEgress"][0]["Description"] == "nowhere", "or AWS adds a way to everywhere"
        assert "SecurityGroupIngress" not in found


def test_s0_18_services_are_in_private_subnets_of_two_zones():
    associations = NETWORK.of("AWS::EC2::SubnetRouteTableAssociation").values()
    tables = {a["SubnetId"].strip("<>"): a["RouteTableId"].strip("<>") for a in associations}
    ways = {r["RouteTableId"].strip("<>"): r for r in NETWORK.of("AWS::EC2::Route").values()}
    for subnet, properties in NETWORK.of("AWS::EC2::Subnet").items():
        assert properties["MapPublicIpOnLaunch"] is False
        way = ways[tables[subnet]]
        assert ("GatewayId" in way) == subnet.startswith("Public"), subnet
        assert ("NatGatewayId" in way) == subnet.startswith("Private"), subnet
    # One NAT gateway for each zone.
    assert {ways[tables[f"PrivateSubnet{zone}"]]["NatGatewayId"] for zone in "AB"} == {"<NatA>", "<NatB>"}
    for name in SERVICES:
        network = STACKS[name].one("AWS::ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert network["AssignPublicIp"] == "DISABLED"
        assert network["Subnets"] == {"Fn::Split": [",", "import:portico-network-PrivateSubnets"]}
        assert network["SecurityGroups"] == [f"import:portico-network-{name}-group"]
    assert PLATFORM.one("AWS::ElasticLoadBalancingV2::LoadBalancer")["Subnets"] == {
        "Fn::Split": [",", "import:portico-network-PublicSubnets"]
    }


def test_what_a_stack_imports_another_one_exports():
    exported = set(NETWORK.exports()) | set(PLATFORM.exports())

    def imports(value):
        if isinstance(value, str):
            yield from re.findall(r"^import:(.+)$", value)
        elif isinstance(value, (list, dict)):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from imports(inner)

    for stack in [PLATFORM, *STACKS.values()]:
        assert set(imports(stack.resources)) <= exported


def test_s0_16_the_load_balancer_ends_tls_and_shares_one_origin_out():
    listeners = {p["Port"]: p for p in PLATFORM.of("AWS::ElasticLoadBalancingV2::Listener").values()}
    assert listeners[80]["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"
    assert listeners[443]["Protocol"] == "HTTPS" and "TLS13" in listeners[443]["SslPolicy"]
    assert listeners[443]["DefaultActions"][0]["TargetGroupArn"] == "<GatewayTargets>"
    # They are asked on the port that they serve: the admin port is closed to the load balancer.
    assert not any("HealthCheckPort" in g for g in PLATFORM.of("AWS::ElasticLoadBalancingV2::TargetGroup").values())
    routes, priorities = {}, []
    for rule in PLATFORM.of("AWS::ElasticLoadBalancingV2::ListenerRule").values():
        priorities.append(rule["Priority"])
        values = rule["Conditions"][0]["PathPatternConfig"]["Values"]
        assert len(values) <= 5, "the load balancer takes no more in a rule"
        routes |= dict.fromkeys(values, rule["Actions"][0]["TargetGroupArn"])
    assert len(set(priorities)) == len(priorities)
    target = {"auth-server": "<AuthServerTargets>", "registry": "<RegistryTargets>"}
    grpc = {"auth-server": "<AuthServerGrpcTargets>", "registry": "<RegistryGrpcTargets>"}
    expected = {p: target[s] for s, paths in GRAPH["paths"].items() for path in paths for p in (path, f"{path}/*")}
    expected |= {f"/{n}/*": grpc[s] for s, names in GRAPH["grpc"].items() for n in names}
    assert routes == expected


@pytest.mark.parametrize("name", SERVICES)
def test_s0_27_tasks_are_at_least_two_and_grow_with_the_load(name):
    target = STACKS[name].one("AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["MaxCapacity"]) == ("2", "6")
    assert STACKS[name].one("AWS::ApplicationAutoScaling::ScalingPolicy")["PolicyType"] == "TargetTrackingScaling"


def test_peers_are_found_by_names_without_a_health_check():
    for name in SERVICES:
        environment = {e["Name"]: e["Value"] for e in containers(name)["service"]["Environment"]}
        peers = {k.removeprefix("PORTICO_PEERS__").lower().replace("_", "-"): v for k, v in environment.items() if "PEERS" in k}
        assert set(peers) == {peer for caller, peer in EDGES if caller == name}
        for peer, address in peers.items():
            assert address == f"{peer}.import:portico-NamesDomain:{INTERNAL}"
    for name in DATABASE:
        found = STACKS[name].one("AWS::ServiceDiscovery::Service")
        assert found["Name"] == name and found["DnsConfig"]["RoutingPolicy"] == "MULTIVALUE"
        # Neither may wait for the other to be ready.
        assert not {"HealthCheckConfig", "HealthCheckCustomConfig"} & set(found)
