"""Kubernetes through its API server: installing a CNI, running commands, and undoing what was changed."""
