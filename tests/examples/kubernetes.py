#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# examples/kubernetes/job.yaml, where there is no cluster to ask: that it is YAML, that no field in
# it is unknown or of the wrong type, and that its pods pass the `restricted` Pod Security Standard,
# which is what the file promises. Called by tests/check.sh; tests/examples/container.sh runs a
# pod: with --podman N it writes what podman has to be told of pod number N, an argument a line.
import os
import sys

try:
    import yaml
except ImportError:
    print("skipped: no python3-yaml here")
    sys.exit(77)

JOB = os.path.join(os.path.dirname(__file__), "../../examples/kubernetes/job.yaml")
INDEX = "batch.kubernetes.io/job-completion-index"

# What we use of the API (batch/v1 and core/v1, Kubernetes 1.31): fields and their types. A list has
# the type of its elements in it; {None: type} is a map with keys of any name.
META = {"name": str, "labels": {None: str}, "annotations": {None: str}}
QUANTITIES = {"cpu": str, "memory": str}
CONTAINER = {
    "name": str, "image": str, "imagePullPolicy": str, "args": [str], "workingDir": str,
    "env": [{"name": str, "value": str, "valueFrom": {"fieldRef": {"fieldPath": str}}}],
    "securityContext": {
        "allowPrivilegeEscalation": bool, "privileged": bool, "readOnlyRootFilesystem": bool,
        "capabilities": {"drop": [str], "add": [str]},
    },
    "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
}
POD = {
    "restartPolicy": str, "terminationGracePeriodSeconds": int,
    "automountServiceAccountToken": bool, "enableServiceLinks": bool, "containers": [CONTAINER],
    "hostNetwork": bool, "hostPID": bool, "hostIPC": bool,
    "securityContext": {
        "runAsNonRoot": bool, "runAsUser": int, "runAsGroup": int, "seccompProfile": {"type": str},
    },
    "volumes": [{"name": str, "emptyDir": {"sizeLimit": str}}],
}
RULE = {
    "action": str,
    "onExitCodes": {"containerName": str, "operator": str, "values": [int]},
    "onPodConditions": [{"type": str, "status": str}],
}
SCHEMA = {
    "apiVersion": str, "kind": str, "metadata": META,
    "spec": {
        "completionMode": str, "completions": int, "parallelism": int, "backoffLimit": int,
        "activeDeadlineSeconds": int, "ttlSecondsAfterFinished": int,
        "podFailurePolicy": {"rules": [RULE]},
        "template": {"metadata": META, "spec": POD},
    },
}

errors = []


def expect(true, what):
    if not true:
        errors.append(what)


def compare(value, schema, path):
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return errors.append(f"{path}: should be a map")
        for key, inner in value.items():
            known = schema.get(key, schema.get(None))
            if known is None:
                errors.append(f"{path}.{key}: no such field")
            else:
                compare(inner, known, f"{path}.{key}")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            return errors.append(f"{path}: should be a list")
        for i, inner in enumerate(value):
            compare(inner, schema[0], f"{path}[{i}]")
    elif type(value) is not schema:
        errors.append(f"{path}: should be of type {schema.__name__}, is {value!r}")


def check_restricted(pod):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    context = pod.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        expect(not pod.get(field), f"{field} is not restricted")
    expect(context.get("runAsNonRoot") is True and context.get("runAsUser") != 0, "may run as root")
    expect(context.get("seccompProfile") == {"type": "RuntimeDefault"}, "no filter of system calls")
    for volume in pod.get("volumes", []):
        expect(set(volume) == {"name", "emptyDir"}, "a volume of the host's")
    for container in pod["containers"]:
        inner = container.get("securityContext", {})
        expect(inner.get("allowPrivilegeEscalation") is False, "may gain privileges")
        expect(inner.get("privileged", False) is False, "is privileged")
        expect(inner.get("capabilities") == {"drop": ["ALL"]}, "has capabilities")


def check_job(job):
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    expect((job["apiVersion"], job["kind"]) == ("batch/v1", "Job"), "is no Job")
    expect(spec["completionMode"] == "Indexed", "pods are not numbered")
    # The API server turns down a Job with a policy whose pods restart by themselves.
    expect(pod["restartPolicy"] == "Never", "podFailurePolicy needs restartPolicy: Never")
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    expect(mounted == {volume["name"] for volume in pod["volumes"]}, "volumes and mounts differ")
    for rule in spec["podFailurePolicy"]["rules"]:
        expect(rule["action"] in ("FailJob", "Ignore", "Count"), f"no action {rule['action']}")
        expect(("onExitCodes" in rule) != ("onPodConditions" in rule), "a rule is about one thing")
        codes = rule.get("onExitCodes")
        if not codes:
            continue
        expect(codes["containerName"] == container["name"], "a rule about no container")
        # "Values must be unique, in increasing order, and not 0 with In."
        values = codes["values"]
        expect(values == sorted(set(values)) and 0 not in values, "a rule's values")


def podman_arguments(pod, index):
    """What is left of the manifest where there is no cluster: one container."""
    container, context = pod["containers"][0], pod["securityContext"]
    inner = container["securityContext"]
    values = {}
    for entry in container["env"]:
        path = entry["valueFrom"]["fieldRef"]["fieldPath"]
        expect(path == f"metadata.annotations['{INDEX}']", f"env: what is {path}?")
        values[f"$({entry['name']})"] = str(index)
    words = [values.get(word, word) for word in container["args"]]
    expect(str(index) in words, "the guest is not told its number")
    options = [f"--user={context['runAsUser']}:{context['runAsGroup']}"]
    options += [f"--cap-drop={name}" for name in inner["capabilities"]["drop"]]
    options += ["--security-opt=no-new-privileges"] * (not inner["allowPrivilegeEscalation"])
    options += ["--read-only"] * inner["readOnlyRootFilesystem"]
    # The kubelet makes an emptyDir that anybody may write to.
    options += [f"--tmpfs={mount['mountPath']}:mode=0777" for mount in container["volumeMounts"]]
    return options + [f"--workdir={container['workingDir']}", container["image"]] + words


with open(JOB, encoding="utf-8") as file:
    job = yaml.safe_load(file)
compare(job, SCHEMA, "job")
arguments = []
if not errors:
    template = job["spec"]["template"]["spec"]
    check_restricted(template)
    check_job(job)
    index = int(sys.argv[2]) if sys.argv[1:2] == ["--podman"] else 0
    arguments = podman_arguments(template, index)
for error in errors:
    print(f"error: {error}", file=sys.stderr)
if not errors and sys.argv[1:2] == ["--podman"]:
    print("\n".join(arguments))
sys.exit(1 if errors else 0)
