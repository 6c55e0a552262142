"""MCKS, Cloud-Barista's service for Kubernetes across clouds: making, using and deleting its clusters."""
