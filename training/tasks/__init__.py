"""The tasks. Each module of this package that defines `TASKS` adds to them."""

import importlib
import pkgutil

from training import TrainingError
from training.tasks.task import Rule, Task

__all__ = ["Rule", "Task", "find_task"]


def find_task(name: str) -> Task:
    """Find a task by its name. Raises TrainingError if no module defines it, or a module cannot be imported."""
    tasks: dict[str, Task] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        try:
            found = getattr(importlib.import_module(module.name), "TASKS", ())
        except Exception as error:
            raise TrainingError(f"{module.name} cannot be imported: {error}") from error
        tasks |= {task.name: task for task in found}
    if name not in tasks:
        raise TrainingError(f"the task {name!r} does not exist: the tasks are {', '.join(sorted(tasks))}")
    return tasks[name]
