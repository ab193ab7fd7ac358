"""What DVC's graph says: which stages are stale, what each depends on, and the order of dvc.lock."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.support.errors import UserError, nearest

#: Seconds to wait for another DVC to end.
PATIENCE = 10.0


@dataclass(frozen=True)
class Graph:
    """The stages of dvc.yaml, in the order of `dvc repro`, each with the stages that it depends on.

    changed: those (of the targets, and of what they depend on) that DVC finds changed in themselves: another command,
    dependency or parameter than dvc.lock says, or an output that is missing. needs: for each stage the paths of its
    dependencies that other stages make, as `dvc pull` takes them.
    """

    stages: Mapping[str, Sequence[str]]
    changed: frozenset[str]
    needs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wanted: frozenset[str] = frozenset()

    def stale(self) -> dict[str, list[str]]:
        """What may have to run, in order: what is changed and what depends on that; each with those of them that it
        depends on."""
        found: dict[str, list[str]] = {}
        for name, below in self.stages.items():  # a stage comes after what it depends on
            above = [other for other in below if other in found]
            if name in self.wanted and (name in self.changed or above):
                found[name] = above
        return found

    def finished(self) -> Graph:
        """The same with nothing stale."""
        return replace(self, changed=frozenset())

    def without(self, done: Collection[str]) -> Graph:
        """The same, where what is done counts as not changed: a stage that always is shall not run for ever."""
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
    """Ask DVC. Raises UserError for an unknown target, and for what DVC cannot read."""
    from dvc.exceptions import DvcException

    try:
        return _read_graph(targets)
    except DvcException as error:
        raise UserError(f"DVC: {str(error).strip() or type(error).__name__}; fix it and run again") from None


def _read_graph(targets: Sequence[str]) -> Graph:
    import networkx as nx
    from dvc.repo import Repo

    with Repo(".", _wait_for_lock=True) as repo:
        graph = repo.index.graph  # edges point to dependencies
        names = nx.relabel_nodes(graph, {stage: stage.addressing for stage in graph})
        wanted = set(names)
        if targets:
            chosen = {name for target in targets for name in _matching(target, names)}
            wanted = chosen | {below for name in chosen for below in nx.descendants(names, name)}
        changed = _changed(repo, [stage for stage in graph if stage.addressing in wanted])
        needs = {stage.addressing: _made(stage, graph.successors(stage)) for stage in graph}
    ordered = list(nx.dfs_postorder_nodes(names))
    stages = {name: list(names.successors(name)) for name in ordered}
    return Graph(stages, frozenset(changed), needs, frozenset(wanted))


def _changed(repo: Any, stages: Sequence[Any]) -> set[str]:
    """Those that DVC finds changed. Waits a little for another DVC, which may be about to end."""
    from dvc.lock import LockError

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with repo.lock:
                return {stage.addressing for stage in stages if stage.changed()}
        except LockError as error:
            if time.monotonic() > deadline:
                raise UserError(f"another DVC is at work here: {error}") from None
        time.sleep(0.5)


def _made(stage: Any, below: Iterable[Any]) -> list[str]:
    """The dependencies of a stage that lie in outputs of others; of a folder that holds such outputs, these."""
    outputs = [Path(out.fs_path) for other in below for out in other.outs]
    found: dict[Path, None] = {}
    for dependency in (Path(dep.fs_path) for dep in stage.deps):
        for out in outputs:
            if dependency == out or out in dependency.parents:
                found[dependency] = None
            elif dependency in out.parents:
                found[out] = None
    root = Path(stage.repo.root_dir)
    return [path.relative_to(root).as_posix() for path in found]


def _matching(target: str, names: Iterable[str]) -> list[str]:
    every = list(names)
    found = [name for name in every if name == target or name.partition("@")[0] == target]
    if not found:
        raise UserError(
            f"no stage '{target}' in dvc.yaml; {nearest(target, {*every, *(n.partition('@')[0] for n in every)})}"
        )
    return found


def locked(text: str) -> list[str]:
    """The names in the text of a dvc.lock, in their order."""
    return re.findall(r"^  ([^\s#][^:]*):", text, flags=re.MULTILINE)


def lock_order(before: Sequence[str], text: str, serial: Sequence[str]) -> str:
    """dvc.lock as one stage after the other would have left it: what stood in it stays in its place, new stages follow in the
    order of the graph. DVC appends a stage when it ends, and side by side they end in any order.

    before: the names that stood in it. text: of dvc.lock now. serial: names in the order of `dvc repro`.
    """
    head, *blocks = re.split(r"^(?=  [^\s#])", text, flags=re.MULTILINE)
    order = [*before, *(name for name in serial if name not in set(before))]
    place = {name: number for number, name in enumerate(order)}
    blocks.sort(key=lambda block: place.get(block.partition(":")[0].strip(), len(place)))
    return head + "".join(blocks)
