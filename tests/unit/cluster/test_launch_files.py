"""The launch files are what their tools accept, and fit this software. Nothing is started or downloaded."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.study import load_study
from orchestrator.submission import check_paths

ROOT = Path(__file__).parents[3]
LAUNCH = ROOT / "cluster" / "launch"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

Fields = dict[str, Any]

SCHEMA: dict[str, Fields] = yaml.safe_load((Path(__file__).parent / "rayjob_schema.yaml").read_text())

QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?")

SIMPLE: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "quantity": lambda value: QUANTITY.fullmatch(str(value)) is not None,
}


def faults(kind: str, found: Any, where: str = "") -> list[str]:
    """What of ``found`` is not as its type says, everything below it included."""
    if kind in SIMPLE:
        return [] if SIMPLE[kind](found) else [f"{where} is no {kind}: {found!r}"]
    if kind.startswith(("list of ", "map of ")):
        container = list if kind.startswith("list") else dict
        if not isinstance(found, container):
            return [f"{where} is no {container.__name__}"]
        pairs = enumerate(found) if isinstance(found, list) else found.items()
        inner = kind.split(" of ")[1]
        return [fault for key, value in pairs for fault in faults(inner, value, f"{where}.{key}")]
    required, known = set(SCHEMA[kind].get("required", ())), SCHEMA[kind]["fields"]
    if not isinstance(found, dict):
        return [f"{where} is no {kind}"]
    wrong = [f"{where}.{name} is missing" for name in sorted(required - set(found))]
    wrong += [f"{where}.{name} is unknown" for name in sorted(set(found) - set(known))]
    wrong += [
        f for name in found if name in known for f in faults(known[name], found[name], f"{where}.{name}")
    ]
    return wrong


def rayjob() -> Fields:
    documents = list(yaml.safe_load_all((LAUNCH / "rayjob.yaml").read_text()))
    return next(document for document in documents if document["kind"] == "RayJob")


def pods() -> dict[str, Fields]:
    spec = rayjob()["spec"]
    cluster = spec["rayClusterSpec"]
    templates = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    templates |= {"head": cluster["headGroupSpec"]["template"], "submitter": spec["submitterPodTemplate"]}
    return {name: template["spec"] for name, template in templates.items()}


def test_the_rayjob_is_what_its_schema_says() -> None:
    job = rayjob()
    assert faults("RayJob", job) == []
    assert job["apiVersion"] == "ray.io/v1"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?", job["metadata"]["name"])
    spec = job["spec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert spec["activeDeadlineSeconds"] > 0


def test_what_the_schema_refuses_is_found_with_its_place() -> None:
    job = rayjob()
    cluster = job["spec"]["rayClusterSpec"]
    del cluster["workerGroupSpecs"][0]["maxReplicas"]
    cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] = 4
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["resource"] = {}
    job["spec"]["backoffLimit"] = "3"
    cluster["authOptions"]["secretName"] = "token"
    assert sorted(faults("RayJob", job)) == [
        ".spec.backoffLimit is no integer: '3'",
        ".spec.rayClusterSpec.authOptions.secretName is unknown",
        ".spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus is no string: 4",
        ".spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.resource is unknown",
        ".spec.rayClusterSpec.workerGroupSpecs.0.maxReplicas is missing",
    ]


@pytest.mark.parametrize("pod", ["head", "gpu", "submitter"])
def test_pods_are_limited_and_unprivileged(pod: str) -> None:
    spec = pods()[pod]
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in spec["containers"]:
        assert set(container["resources"]) == {"limits", "requests"}
        assert all({"cpu", "memory"} <= set(amounts) for amounts in container["resources"].values())
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes


def test_the_rayjob_authenticates_shares_storage_and_scales() -> None:
    cluster = rayjob()["spec"]["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["enableInTreeAutoscaling"] is True
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    claims = [d for d in yaml.safe_load_all((LAUNCH / "rayjob.yaml").read_text()) if d["kind"] != "RayJob"]
    assert [claim["kind"] for claim in claims] == ["PersistentVolumeClaim"]
    assert claims[0]["spec"]["accessModes"] == ["ReadWriteMany"]
    shared = [
        volume["persistentVolumeClaim"]["claimName"]
        for name in ("head", "gpu")
        for volume in pods()[name]["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert shared == [claims[0]["metadata"]["name"]] * 2


def test_the_rayjob_runs_a_study_that_a_job_can_run_and_stops_in_order() -> None:
    spec = rayjob()["spec"]
    words = shlex.split(spec["entrypoint"])
    assert words[:5] == ["python", "-m", "orchestrator", "sweep", "--final-is-ok"]
    study = load_study(words[5], words[6:])
    check_paths(study)
    mounted = pods()["gpu"]["containers"][0]["volumeMounts"]
    assert any(study.storage.startswith(mount["mountPath"] + "/") for mount in mounted)
    workers = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    gpus = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert study.slots.count == workers["maxReplicas"] * gpus
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert all(isinstance(value, str) for value in variables.values())
    assert variables["RAY_JOB_STOP_SIGNAL"] == "SIGTERM" and int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) >= 20


def test_only_what_a_new_cluster_may_change_is_tried_again() -> None:
    spec = rayjob()["spec"]
    assert spec["backoffLimit"] == 0 or "--final-is-ok" in shlex.split(spec["entrypoint"])
    assert not re.search(r"[;&|<>$`()]", spec["entrypoint"]), "the submitter's shell would read it"


def test_versions_agree() -> None:
    version = rayjob()["spec"]["rayClusterSpec"]["rayVersion"]
    pinned = next(d for d in PROJECT["dependencies"] if d.startswith("ray["))
    assert f">={'.'.join(version.split('.')[:2])}," in pinned
    images = {c["image"] for pod in pods().values() for c in pod["containers"]}
    assert images == {f"mmap-orchestrator:{PROJECT['version']}"}
    base = next(words[0] for name, words in instructions() if name == "FROM")
    assert re.fullmatch(r"python:3\.11-slim-\w+(@sha256:\w+)?", base), "requires-python, and a fixed release"


def test_rays_launcher_accepts_the_on_premises_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((LAUNCH / "on_premises.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    nodes = prepared["available_node_types"][prepared["head_node_type"]]
    assert nodes["min_workers"] == nodes["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_on_premises_cluster_authenticates_and_keeps_its_dashboard_to_itself() -> None:
    config = yaml.safe_load((LAUNCH / "on_premises.yaml").read_text())
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]
        exported, started = commands[-1].split("; ray start")
        assert "PATH=$HOME/mmap-orchestrator/.venv/bin:" in exported and started
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


@pytest.mark.parametrize("name", ["on_premises.yaml", "rayjob.yaml", "serve.yaml", "Containerfile"])
def test_a_header_says_how_it_is_used_and_what_to_edit(name: str) -> None:
    lines = (LAUNCH / name).read_text().splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert "# Edit:" in [line[:7] for line in header] and any(line.startswith("#     ") for line in header)


def test_ray_serve_accepts_the_file_and_listens_on_loopback() -> None:
    from ray.serve.schema import ServeDeploySchema

    from orchestrator.serving.deployment import NAME, DeploymentArguments, app

    config = yaml.safe_load((LAUNCH / "serve.yaml").read_text())
    (application,) = ServeDeploySchema.model_validate(config).applications
    assert config["http_options"]["host"] == "127.0.0.1"
    assert application.import_path == f"{app.__module__}:{app.__name__}"
    (deployment,) = application.deployments
    arguments = DeploymentArguments.model_validate(application.args)
    assert deployment.name == NAME
    assert deployment.max_ongoing_requests <= arguments.limits.queue
    assert arguments.limits.drain < deployment.graceful_shutdown_timeout_s


def instructions() -> list[tuple[str, list[str]]]:
    """Instructions of the container file with their words, continued lines joined."""
    text = (LAUNCH / "Containerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1].split()) for line in joined]


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    """What hadolint says about a container file; anything it finds is a failure."""
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    options = ["--no-color", "--failure-threshold", "style", "--config", os.devnull]
    return subprocess.run([program, *options, path], capture_output=True, text=True, timeout=60)


def test_hadolint_finds_nothing_in_the_container_file() -> None:
    done = hadolint(LAUNCH / "Containerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "Containerfile"
    wrong.write_text("FROM python:latest\nENV API_TOKEN=secret\nRUN sudo true\nWORKDIR here\nUSER root\n")
    done = hadolint(wrong)
    assert done.returncode == 1
    assert {"DL3007", "DL3064", "DL3004", "DL3000", "DL3002"} <= set(re.findall(r"DL\d+", done.stdout))


def test_ignored_rules_are_named_with_a_reason() -> None:
    lines = (LAUNCH / "Containerfile").read_text().splitlines()
    for i, line in enumerate(lines):
        if "hadolint" in line:
            assert re.fullmatch(r"# hadolint ignore=DL\d{4}(,DL\d{4})*", line)
            assert re.match(r"# \w", lines[i - 1]), "the comment above says why"


KNOWN = ("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "LABEL", "RUN", "USER", "WORKDIR")


def test_the_container_file_keeps_to_rules_that_hadolint_does_not_know() -> None:
    found = instructions()
    assert {name for name, _ in found} <= set(KNOWN), "ADD fetches and unpacks: COPY and RUN say what happens"
    for name, words in found:
        line = " ".join(words)
        if name == "RUN":
            assert "apt-get install" not in line or "apt-get update" in line, "of the same layer"
            assert not re.search(r"(curl|wget)[^|]*\|\s*(ba)?sh", line)
            assert "uv pip install" not in line or "--no-cache" in line
        if name == "COPY":
            assert all((ROOT / source).exists() for source in words[:-1])
    last = max(i for i, (name, _) in enumerate(found) if name == "RUN")
    assert last < next(i for i, (name, _) in enumerate(found) if name == "USER"), "it runs as nobody special"


def test_the_container_brings_every_package_and_no_more() -> None:
    copied = {source for name, words in instructions() if name == "COPY" for source in words[:-1]}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert packages <= copied and {"pyproject.toml", "README.md", "LICENSE"} == copied - packages
