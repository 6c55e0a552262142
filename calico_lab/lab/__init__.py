"""The local lab: a real kernel's data path, and no cloud."""
