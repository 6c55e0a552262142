"""How long a cluster takes to come up, and what batches save.

The baseline sets the very same kernel settings, one by one: a process of ip, bridge, ipset or iptables each, as a
shell script would. All is measured in one run, on one machine; compare ratios, not seconds.
"""

from __future__ import annotations

import statistics
import time
from contextlib import closing

from rich.console import Console
from rich.progress import track
from rich.table import Table

from calico_lab.cluster.lab import LabCluster
from calico_lab.lab.host import Host
from calico_lab.lab.settings import Settings
from calico_lab.scenario import Scenario

RUNS = {2: 5, 10: 3, 50: 1}
"""For each number of nodes, how many runs the median is of."""


class OneByOne(Host):
    """The baseline: a process for each setting."""

    def apply(self, space: str, settings: Settings) -> None:
        for line in settings.ip:
            self.do(space, ["ip", *line.split()])
        for line in settings.ipset:
            self.do(space, ["ipset", *line.split()])
        for table, lines in settings.iptables.items():
            for line in lines:
                self.do(space, ["iptables-restore", "--noflush"], f"*{table}\n{line}\nCOMMIT\n")
        for line in settings.bridge:
            self.do(space, ["bridge", *line.split()])
        for key, value in settings.sysctl.items():
            self.do(space, ["sysctl", "-qw", f"{key}={value}"])


def scenario(nodes: int) -> Scenario:
    """Half of the nodes in AWS, half in GCP; no delay between them, so that any kernel with VXLAN can do it."""
    return Scenario.of(
        {
            "scenario": f"nodes-{nodes}",
            "sites": [
                {"name": "aws", "cloud": "aws", "subnets": ["192.168.10.0/24"], "public": "203.0.113.0/24"},
                {"name": "gcp", "cloud": "gcp", "subnets": ["192.168.29.0/24"], "public": "198.51.100.0/24"},
            ],
            "nodes": [{"name": f"{site}-node", "site": site, "count": nodes // 2} for site in ("aws", "gcp")],
            "cni": {"plugin": "calico", "version": "3.22.0", "node_ip": "public"},
        }
    )


def seconds(kind: type[Host], nodes: int) -> float:
    """From nothing to a cluster whose nodes all answer."""
    start = time.perf_counter()
    with closing(LabCluster(scenario(nodes), host=kind())):
        return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    table = Table(title="Bringing a cluster up")
    for heading in ("nodes", "runs", "calico_lab, s", "one process a setting, s", "times as fast"):
        table.add_column(heading, justify="right")
    for nodes, runs in track(RUNS.items(), description="bring up", transient=True):
        # By turns, so that both see the same machine.
        pairs = [(seconds(Host, nodes), seconds(OneByOne, nodes)) for _ in range(runs)]
        ours, baseline = (statistics.median(times) for times in zip(*pairs, strict=True))
        table.add_row(str(nodes), str(runs), f"{ours:.2f}", f"{baseline:.2f}", f"{baseline / ours:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
