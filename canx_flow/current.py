"""The step that this code is called in: the public names of `core.current`."""

from .core.current import CurrentStep, current_step, in_step

__all__ = ["CurrentStep", "current_step", "in_step"]
