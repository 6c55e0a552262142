"""Review how a Kubernetes CNI behaves when its nodes sit in different clouds."""

__version__ = "0.1.0"
