"""What does Airflow need to know of this package? Its provider info, as plain data; importing it imports nothing."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "inner_executor": {
        "description": "Executor that runs the tasks once they are bound: a core name or a class path.",
        "type": "string",
        "example": "CeleryExecutor",
        "default": "LocalExecutor",
    },
    "policy": {
        "description": "Who decides: ``fate``, or a baseline to compare with, such as ``round_robin`` or ``eft``.",
        "type": "string",
        "example": "round_robin",
        "default": "fate",
    },
    "objective": {
        "description": "What the planner minimizes: ``makespan``, ``mean``, ``p95`` or ``balanced``.",
        "type": "string",
        "example": "p95",
        "default": "balanced",
    },
    "state_source": {
        "description": "Whence the fleet is known: ``local``, the folder of ``fate fleet up``, or ``kubernetes``.",
        "type": "string",
        "example": "kubernetes",
        "default": "local",
    },
    "fleet_dir": {
        "description": "Folder of the local fleet (``fate fleet up --dir``).",
        "type": "string",
        "example": "/var/lib/fate/fleet",
        "default": "{AIRFLOW_HOME}/fate-fleet",
    },
    "gateway_secret": {
        "description": "Key that signs the gateways' tokens, 32 bytes or more; empty: file ``secret`` of fleet_dir.",
        "type": "string",
        "sensitive": True,
        "example": "a long random string of at least 32 bytes",
        "default": "",
    },
    "label_prefix": {
        "description": "Prefix of the labels and annotations by which gateways publish their state.",
        "type": "string",
        "example": "fate.example.com",
        "default": "fate.airflow",
    },
    "namespace": {
        "description": "Namespace of the engine pods on Kubernetes; empty: the scheduler's own.",
        "type": "string",
        "example": "models",
        "default": "",
    },
    "pod_selector": {
        "description": "Label selector of the engine pods on Kubernetes.",
        "type": "string",
        "example": "app.kubernetes.io/name in (vllm, llamacpp)",
        "default": "fate.airflow/device",
    },
    "inference_pool": {
        "description": "InferencePool in that namespace whose selector and target port count instead; empty: none.",
        "type": "string",
        "example": "llama-pool",
        "default": "",
    },
    "service_accounts": {
        "description": "Only pods of these ServiceAccounts count, comma-separated; empty: those of any.",
        "type": "string",
        "example": "fate-engine",
        "default": "",
    },
    "gateway_port": {
        "description": "Port of the gateways on Kubernetes; no request goes to another one.",
        "type": "integer",
        "example": "9000",
        "default": "8475",
    },
    "kubeconfig": {
        "description": "File that says how to reach Kubernetes; empty: as the pod's ServiceAccount.",
        "type": "string",
        "example": "/etc/fate/kubeconfig",
        "default": "",
    },
    "models_file": {
        "description": "YAML file with the section ``models`` of a fleet file; needed on Kubernetes.",
        "type": "string",
        "example": "/etc/fate/models.yaml",
        "default": "",
    },
    "pod_stale_after_s": {
        "description": "A pod whose gateway showed no sign of life for so long gets no new tasks, in seconds.",
        "type": "float",
        "example": "600",
        "default": "300",
    },
    "tenants": {
        "description": "Which DAG bundles may use which tenant's name, as JSON; empty: every DAG may use any.",
        "type": "string",
        "example": '{"finance": ["finance-dags"], "hr": ["hr-dags"]}',
        "default": "",
    },
    "search_ms": {
        "description": "How long a search for a better rule may take, in milliseconds, in its own process.",
        "type": "float",
        "example": "2000",
        "default": "500",
    },
    "solver": {
        "description": "``search`` looks for better rules in a child process; ``off`` keeps to the greedy one.",
        "type": "string",
        "example": "off",
        "default": "search",
    },
    "max_frontier": {
        "description": "Tasks that may wait in the frontier; more stay scheduled in Airflow.",
        "type": "integer",
        "example": "5000",
        "default": "1000",
    },
    "stale_after_s": {
        "description": "A device of a local fleet that has been silent for so long gets no new tasks, in seconds.",
        "type": "float",
        "example": "30",
        "default": "10",
    },
    "default_prompt_tokens": {
        "description": "Estimate for a prompt that only rendering can tell, until there is history.",
        "type": "integer",
        "example": "2000",
        "default": "512",
    },
    "default_output_tokens": {
        "description": "Estimate for an answer without expected_output_tokens, max_tokens or history.",
        "type": "integer",
        "example": "500",
        "default": "128",
    },
    "tool_seconds": {
        "description": "Estimate for a task that runs outside the fleet, until there is history, in seconds.",
        "type": "float",
        "example": "30",
        "default": "1",
    },
    "preload": {
        "description": "Modules imported before LocalExecutor forks its workers, comma-separated: no task pays it.",
        "type": "string",
        "example": "airflow_fate.operators.llm,pandas",
        "default": "airflow_fate.operators.llm",
    },
    "xcom_limit_bytes": {
        "description": "Larger answers and conversations stay on the engine's node, with a reference in XCom.",
        "type": "integer",
        "example": "1048576",
        "default": "65536",
    },
    "keep_days": {
        "description": "How long ended reservations are kept as the record of placements, in days.",
        "type": "float",
        "example": "7",
        "default": "30",
    },
    "price_per_gpu_hour": {
        "description": "What an hour of a GPU costs: a number, or a JSON object by GPU product; empty: nobody knows.",
        "type": "string",
        "example": '{"NVIDIA-H100-80GB-HBM3": 4.1, "NVIDIA-L4": 0.7}',
        "default": "",
    },
    "budgets": {
        "description": "What DAGs and tenants may spend per run and per day, as a JSON list; empty: as they like.",
        "type": "string",
        "example": '[{"tenant": "finance", "per": "day", "gpu_seconds": 36000, "action": "hold"}]',
        "default": "",
    },
}


def get_cli_commands() -> list[Any]:
    """Commands of ``airflow``: none, ``fate`` has its own. Without this entry Airflow warns, and loads the executor
    with every command, to ask it for some.
    """
    return []


def get_provider_info() -> dict[str, Any]:
    """Entry point ``apache_airflow_provider``."""
    return {
        "package-name": "airflow-fate",
        "name": "FATE",
        "description": "Future-state-aware scheduling of LLM workflows.",
        "executors": ["airflow_fate.executor.FateExecutor"],
        "cli": ["airflow_fate.provider_info.get_cli_commands"],
        "db-managers": ["airflow_fate.state.db_manager.FateDBManager"],
        "connection-types": [
            {
                "connection-type": "fate",
                "hook-class-name": "airflow_fate.operators.hook.FateHook",
                "hook-name": "FATE fleet",
            }
        ],
        "task-decorators": [{"name": "fate_llm", "class-name": "airflow_fate.operators.decorator.fate_llm_task"}],
        "config": {
            "fate": {
                "description": "FateExecutor, its planner and its view of the fleet.",
                "options": {
                    name: {"version_added": "0.1.0", "sensitive": False} | option for name, option in OPTIONS.items()
                },
            }
        },
    }
