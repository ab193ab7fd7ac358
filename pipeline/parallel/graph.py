"""The graph of DVC's stages: which are stale, what each depends on, and which to run next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.parallel.dvc import open_repository
from pipeline.support.errors import UserError, nearest


@dataclass(frozen=True)
class Graph:
    """The requested stages and everything they depend on, in the order of `dvc repro`.

    Attributes:
        stages: Each stage with the stages that it depends on directly.
        changed: The stages that DVC finds changed in themselves: their command, a dependency, a parameter or an output
            differs from dvc.lock, or an output is missing.
        inputs: For each stage the paths that it takes from other stages.
    """

    stages: Mapping[str, Sequence[str]]
    changed: frozenset[str]
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def stale(self) -> dict[str, list[str]]:
        """Return the stages that may have to run, in order, each with the stale stages that it depends on directly.

        A stage is stale if it is changed in itself or depends on a stale stage.
        """
        found: dict[str, list[str]] = {}
        for name, below in self.stages.items():  # a stage comes after those that it depends on
            above = [other for other in below if other in found]
            if name in self.changed or above:
                found[name] = above
        return found

    def without(self, done: Collection[str]) -> Graph:
        """Return a copy in which the stages of `done` count as unchanged.

        Otherwise a stage that DVC always considers changed would run for ever.
        """
        return replace(self, changed=self.changed - set(done))

    def next(self) -> dict[str, list[str]]:
        """Return the stages to run before DVC is asked again; empty if nothing is stale.

        Normally these are all stale stages. But if all of them depend on a single changed stage, and some are not
        changed in themselves, it is that stage alone: if its outputs come out as they were, the others need not run.
        This happens after any change of params.yaml: `plan` runs, and most of its files come out as they were.
        """
        stale = self.stale()
        first = [name for name, below in stale.items() if not below]
        if len(first) == 1 and any(name not in self.changed for name in stale):
            return {first[0]: []}
        return stale


def read_graph(targets: Sequence[str]) -> Graph:
    """Ask DVC for the stages, their dependencies, and which of them are changed.

    Args:
        targets: Names of stages, such as train (for every method and seed) or train@tag-1; empty means all stages.

    Raises:
        UserError: if a target is unknown, or if DVC cannot read the project.
    """
    with open_repository() as repository:
        stages = repository.dependencies()
        wanted = {name for target in targets for name in _matching(target, stages)} or set(stages)
        for name in reversed(stages):
            if name in wanted:
                wanted.update(stages[name])
        stages = {name: below for name, below in stages.items() if name in wanted}
        return Graph(stages, frozenset(repository.changed(wanted)), repository.inputs())


def _matching(target: str, names: Iterable[str]) -> list[str]:
    """Names of the stages that a target stands for. Raises UserError if there are none."""
    every = list(names)
    found = [name for name in every if name == target or name.partition("@")[0] == target]
    if not found:
        raise UserError(
            f"no stage '{target}' in dvc.yaml; {nearest(target, {*every, *(n.partition('@')[0] for n in every)})}"
        )
    return found
