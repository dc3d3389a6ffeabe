"""Can the API server be reached, may the scheduler watch what it must, and are the clocks together?"""

from __future__ import annotations

from airflow_fate.doctor.clock import ahead_s, check_clock
from airflow_fate.doctor.finding import Finding, failure, not_checked, ok, warning
from airflow_fate.kube.api import Api, ApiTrouble
from airflow_fate.kube.credentials import Credentials, CredentialsError

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def check_cluster(credentials: Credentials | CredentialsError, namespace: str) -> list[Finding]:
    """API server, permissions, clock.

    :param credentials: or why there are none.
    :param namespace: of the engines' pods; empty for our own.
    """
    if isinstance(credentials, CredentialsError):
        remedy = "run it in a pod with a ServiceAccount, or set [fate] kubeconfig"
        rest = (not_checked(name, "no credentials") for name in ("permissions", "cluster clock"))
        return [failure("API server", str(credentials), remedy), *rest]
    async with Api(credentials) as api:
        try:
            version = await api.get("/version")
        except ApiTrouble as error:
            rest = (not_checked(name, "no API server") for name in ("permissions", "cluster clock"))
            return [failure("API server", str(error), f"see whether {credentials.server} can be reached"), *rest]
        reached = ok(
            "API server", f"{credentials.server}, Kubernetes {version.get('gitVersion', 'of unknown version')}"
        )
        clock = check_clock("cluster clock", {"the API server": ahead_s(api.date)})
        return [reached, await _check_permissions(api, namespace or credentials.namespace), clock]


async def _check_permissions(api: Api, namespace: str) -> Finding:
    try:
        of_pods = [verb for verb in ("list", "watch") if not await _may(api, verb, "pods", namespace)]
        of_nodes = [verb for verb in ("list", "watch") if not await _may(api, verb, "nodes", "")]
    except ApiTrouble as error:
        return failure("permissions", f"can't be asked for: {error}", "see the ServiceAccount's token")
    rights = "the chart's rbac.create makes Role and binding"
    if of_pods:
        return failure("permissions", f"may not {' or '.join(of_pods)} pods in {namespace}", rights)
    if of_nodes:
        return warning("permissions", f"may not {' or '.join(of_nodes)} nodes: GPUs are as gateways say", rights)
    return ok("permissions", f"may list and watch pods in {namespace}, and nodes")


async def _may(api: Api, verb: str, resource: str, namespace: str) -> bool:
    asked = {"verb": verb, "resource": resource} | ({"namespace": namespace} if namespace else {})
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = await api.create(REVIEW, review)
    return bool((answer.get("status") or {}).get("allowed"))
