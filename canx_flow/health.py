"""What `flowhealth` prints, for views of a project: the public names of `insight.health`."""

from .insight.health import Health, examine

__all__ = ["Health", "examine"]
