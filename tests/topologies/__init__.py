"""Several real servers that work together, each a plain process on loopback.

    with Cluster(masters=3, replicas=1) as cluster:
        connect(cluster.url)  # redis+cluster://127.0.0.1:…

They end with their test, and with the process that runs it.
"""

from topologies.cluster import Cluster
from topologies.migration import Migration
from topologies.node import Node
from topologies.sentinels import Sentinels

__all__ = ["Cluster", "Migration", "Node", "Sentinels"]
