"""A preemption notice: ``python drain.py GCS ADDRESS`` tells Ray that the node of that address will go."""

from __future__ import annotations

import sys

import ray
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2


def main() -> None:
    gcs, address = sys.argv[1:]
    ray.init(gcs, log_to_driver=False)
    node = next(n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeManagerAddress"] == address)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, refusal = GcsClient(address=gcs).drain_node(node, reason, "taken away by the test", 0)
    assert accepted, refusal


if __name__ == "__main__":
    main()
