"""Does the API server accept every object of the chart, over the matrix of values, with no field unknown to it?

And every pod, where it enforces the Pod Security standard "restricted"?
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.conftest import Rendered, Values, helm, render
from tests.chart.test_matrix import MATRIX, PLACES
from tests.cluster.api import Api, ApiError
from tests.cluster.conftest import Namespace

__all__ = ["helm", "render"]

OF_ENGINES_TOO = ("restricted", "openshift")
SECURITY = "pod-security.kubernetes.io"
DRY_RUN = "?dryRun=All&fieldValidation=Strict"
GLOBAL = ("ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
# Their definitions are of others. Their pods, and pods whose account isn't there yet, are tried as those of a Job.
FOREIGN = ("LeaderWorkerSet", "PodMonitor")


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
async def test_the_api_server_accepts_all_objects(
    api: Api, namespace: Namespace, request: pytest.FixtureRequest, values: Values
) -> None:
    rendered = request.getfixturevalue("render")(values)
    for manifest in objects(rendered):
        await api.create(path_of(manifest, namespace) + DRY_RUN, manifest)


@pytest.mark.parametrize(("release", "space"), PLACES)
@pytest.mark.parametrize("name", ["names that YAML takes for something else", "odd names beside the official chart"])
async def test_the_api_server_accepts_odd_names(
    api: Api, namespace: Namespace, request: pytest.FixtureRequest, name: str, release: str, space: str
) -> None:
    for manifest in objects(request.getfixturevalue("render")(MATRIX[name], release, space)):
        await api.create(path_of(manifest, namespace) + DRY_RUN, manifest)


@pytest.mark.parametrize("name", [name for name in MATRIX if name != "nobody says who runs"])
async def test_pods_are_admitted_where_pod_security_is_restricted(
    api: Api, namespace: Namespace, request: pytest.FixtureRequest, name: str
) -> None:
    """Of a Deployment the API server would only warn: its pods are asked for one by one.

    An engine with an image of its own is its pool's affair.
    """
    await api.patch(
        f"/api/v1/namespaces/{namespace.name}", {"metadata": {"labels": {f"{SECURITY}/enforce": "restricted"}}}
    )
    rendered: Rendered = request.getfixturevalue("render")(MATRIX[name])
    for account in rendered.of("ServiceAccount").values():
        await namespace.create("serviceaccounts", account)
    for at, template in rendered.pods().items():
        if name not in OF_ENGINES_TOO and any(
            container["name"] == "engine" for container in template["spec"]["containers"]
        ):
            continue
        try:
            await namespace.create(f"pods{DRY_RUN}", pod_of(template))
        except ApiError as error:
            pytest.fail(f"{at}: {error}")


async def test_a_pod_that_names_no_user_is_refused_where_pod_security_is_restricted(
    api: Api, namespace: Namespace, request: pytest.FixtureRequest
) -> None:
    await api.patch(
        f"/api/v1/namespaces/{namespace.name}", {"metadata": {"labels": {f"{SECURITY}/enforce": "restricted"}}}
    )
    rendered: Rendered = request.getfixturevalue("render")(MATRIX["nobody says who runs"])
    for account in rendered.of("ServiceAccount").values():
        await namespace.create("serviceaccounts", account)
    with pytest.raises(ApiError, match='violates PodSecurity "restricted'):
        await namespace.create(f"pods{DRY_RUN}", pod_of(rendered.pods()["Deployment/r-fate-scheduler"]))


async def test_a_field_that_kubernetes_does_not_know_is_an_error(api: Api, namespace: Namespace) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "date": {}}
    with pytest.raises(ApiError, match='unknown field "date"'):
        await api.create(path_of(wrong, namespace) + DRY_RUN, wrong)


def objects(rendered: Rendered) -> Iterator[Values]:
    yield from (manifest for manifest in rendered.objects if manifest["kind"] not in (*FOREIGN, "Pod"))
    for at, pod in rendered.pods().items():
        if at.startswith(("Pod/", "LeaderWorkerSet/")):
            metadata = {key: value for key, value in pod["metadata"].items() if key != "name"}
            template = {"metadata": metadata, "spec": {**pod["spec"], "restartPolicy": "Never"}}
            yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": template}}


def pod_of(template: Values) -> Values:
    """As its controller would make it; a StatefulSet's adds the claim."""
    spec = template["spec"]
    mounted = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", ())}
    claims = mounted - {volume["name"] for volume in spec.get("volumes", ())}
    volumes = [*spec.get("volumes", ()), *({"name": name, "emptyDir": {}} for name in sorted(claims))]
    return {"metadata": {**template["metadata"], "name": "a"}, "spec": {**spec, "volumes": volumes}}


def path_of(manifest: Values, namespace: Namespace) -> str:
    kind = manifest["kind"].lower()
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    group = "api/v1" if manifest["apiVersion"] == "v1" else f"apis/{manifest['apiVersion']}"
    return f"/{group}/{plural}" if manifest["kind"] in GLOBAL else namespace.path(plural, group)
