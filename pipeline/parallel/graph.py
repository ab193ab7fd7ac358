"""Which stages are stale, what each depends on, and which of them to hand out next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.parallel.dvc import open_repository
from pipeline.support.errors import UserError, nearest


@dataclass(frozen=True)
class Graph:
    """The stages that were asked for and what they depend on, in the order of `dvc repro`.

    Attributes:
        stages: Each with the stages that it depends on directly.
        changed: Those that DVC finds changed in themselves: another command, dependency or parameter than dvc.lock says, or
            an output that is missing.
        inputs: For each stage the paths that it takes from other stages.
    """

    stages: Mapping[str, Sequence[str]]
    changed: frozenset[str]
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def stale(self) -> dict[str, list[str]]:
        """What may have to run, in order: what is changed and what depends on that; each with those of them that it
        depends on."""
        found: dict[str, list[str]] = {}
        for name, below in self.stages.items():  # a stage comes after what it depends on
            above = [other for other in below if other in found]
            if name in self.changed or above:
                found[name] = above
        return found

    def without(self, done: Collection[str]) -> Graph:
        """The same, where what is done counts as not changed: a stage that always is must not run for ever."""
        return replace(self, changed=self.changed - set(done))

    def next(self) -> dict[str, list[str]]:
        """What to hand out before DVC is asked again; empty when nothing is stale.

        All that is stale; but where all of it hangs on a single changed stage, and some of it is not changed in itself (as
        after any change of params.yaml, which makes `plan` run, most of whose files come out as they were), that one alone.
        """
        stale = self.stale()
        first = [name for name, below in stale.items() if not below]
        if len(first) == 1 and any(name not in self.changed for name in stale):
            return {first[0]: []}
        return stale


def read_graph(targets: Sequence[str]) -> Graph:
    """Ask DVC.

    Args:
        targets: Stages, as train or train@tag-1; all where there is none.

    Raises:
        UserError: A target is unknown, or DVC cannot read the project.
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
    every = list(names)
    found = [name for name in every if name == target or name.partition("@")[0] == target]
    if not found:
        raise UserError(
            f"no stage '{target}' in dvc.yaml; {nearest(target, {*every, *(n.partition('@')[0] for n in every)})}"
        )
    return found
