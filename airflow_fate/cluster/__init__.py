"""What is it run on? The fleet and its state, as immutable values."""

from airflow_fate.cluster.fleet import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.cluster.speeds import best_name, without_speeds
from airflow_fate.cluster.state import CachedSegment, ClusterState, PlaceState, Residency, Running

__all__ = [
    "CachedSegment",
    "ClusterState",
    "Device",
    "DeviceGroup",
    "Fleet",
    "ModelSpec",
    "Node",
    "PlaceState",
    "Residency",
    "Running",
    "best_name",
    "without_speeds",
]
