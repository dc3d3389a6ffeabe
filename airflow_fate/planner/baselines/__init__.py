"""What is FATE compared with? Strong baselines, each with its source, under the names that commands take."""

from airflow_fate.planner.baselines import listed, routers
from airflow_fate.planner.baselines.policy import Baseline

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        routers.ROUND_ROBIN,
        routers.ROUND_ROBIN_PUSH,
        routers.LEAST_LOADED_FIRST,
        routers.MODEL_FIRST,
        routers.PREFIX_FIRST,
        routers.ENDPOINT_PICKER,
        routers.DYNAMO_KV,
        listed.DISPATCH,
        listed.EARLIEST_FINISH_TIME,
        listed.HEFT,
        listed.PEFT,
        listed.CRITICAL_PATH,
        listed.LEAST_ATTAINED_SERVICE,
        listed.KVFLOW,
        listed.BATCH_AFFINITY,
    )
}
BASELINES |= {f"{name}+": baseline.strengthened() for name, baseline in list(BASELINES.items()) if baseline.can_add}
