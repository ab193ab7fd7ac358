"""What a stage costs beyond its own work, and how that grows with the number of stages.

    python -m bench.stages growth [--counts 60,240,960] [--jobs 2] [--dvc 240] [--rounds 1] [--picture FILE]
    python -m bench.stages overhead [--before COMMIT] [--rounds 3]
    python -m bench.stages graph [--methods 50] [--seeds 20] [--jobs 2]

`growth` runs pipelines of trivial stages, each of which depends on one stage of the first tenth, in new repositories with
empty caches: by `tag-pipeline repro -j JOBS`, and those of at most `--dvc` stages by `dvc repro`, alternated. Then each
is asked again, with nothing to do. Both must give the same dvc.lock.

`overhead` takes trainings and eigenspectra of the default benchmark apart, with the code of this commit and with that of
another one, alternated: seconds in DVC before the command, in the command before and after its own work (interpreter,
imports), in its work, and in DVC after it. The first stage of a process, which imports DVC and starts what forks, is
left out.

`graph` gives the project itself so many methods and seeds, with its own parameters, dependencies, outputs and metrics, but
trainings, eigenspectra, tables and figures whose commands only write a line: the seconds of `plan`, until the first
training begins, of everything, and of a run that finds nothing to do, and the memory of the largest process.

Processor seconds are those of all processes together: they say what two busy cores would need.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.side_by_side import ROOT, seconds

#: The last commit at which each stage was a process of its own, and DVC read and wrote the whole of dvc.lock for it.
BEFORE = "ce3dc5f"
#: The stages that are taken apart; the first warms the process up.
STAGES = ("train@naive-1", "train@naive-2", "train@tag-1", "eigenspectrum@naive-1", "eigenspectrum@naive-2")
PARTS = ("DVC before", "start and imports", "own work", "DVC after")

#: Runs the stages that it is given in a process as `tag-pipeline repro` keeps them, and prints what each took.
PROBE = """
import json, os, sys, time
from pathlib import Path
from pipeline.parallel.dvc import run_command

try:
    import pipeline.parallel.dvc_inside as ours
except ImportError:  # of an older commit
    import pipeline.parallel.dvc as ours

ours.ask_for_locks_often()
if hasattr(ours, "read_and_write_single_stages"):
    from pipeline.parallel.forks import Forks

    ours.read_and_write_single_stages()
    forks = Forks(Path.cwd())
    ours.give_commands_to(forks.run)
    forks.start(os.environ)
import dvc.stage.run

run, command = dvc.stage.run._run, [0.0, 0.0]

def timed(*given, **named):
    command[0] = time.perf_counter()
    run(*given, **named)
    command[1] = time.perf_counter()

dvc.stage.run._run = timed
print_to = os.dup(1)
os.dup2(2, 1)
for name in sys.argv[1:]:
    begun = time.perf_counter()
    if run_command(["repro", "--single-item", "--force", name]):
        sys.exit(f"{name} failed")
    ended = time.perf_counter()
    stage, _, item = name.partition("@")
    work = json.loads(Path("logs", stage, f"{item}.json").read_text())["seconds"]
    parts = [command[0] - begun, command[1] - command[0] - work, work, ended - command[1]]
    os.write(print_to, (json.dumps([name, parts]) + "\\n").encode())
"""


def repository(folder: Path, count: int) -> None:
    """A repository of `count` stages that each write a line."""
    folder.mkdir()
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    first = max(1, count // 10)
    stages = {
        f"s{number:04}": {
            "cmd": f"echo {number} > {number}.txt",
            "deps": [f"{number % first}.txt"] if number >= first else [],
            "outs": [f"{number}.txt"],
        }
        for number in range(count)
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")


def both_clocks(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and processor seconds of a command that must succeed, everything that it starts included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = seconds(command, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def growth(counts: list[int], jobs: int, dvc: int, rounds: int, picture: Path | None) -> None:
    """Print a line for each number of stages and each way to run them, and draw them."""
    print(
        f"{'stages':>6}  {'way':<20} {'seconds':>8} {'per stage':>9} {'processor':>10} {'per stage':>9} {'up to date':>11}",
        flush=True,
    )
    drawn: dict[str, list[tuple[int, float, float]]] = {}
    for count in counts:
        ways = {f"tag-pipeline -j {jobs}": [sys.executable, "-m", "pipeline", "repro", "-j", str(jobs)]}
        if count <= dvc:
            ways["dvc repro"] = [sys.executable, "-m", "dvc", "repro"]
        took: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            locks = set()
            with tempfile.TemporaryDirectory() as place:
                for number, (way, command) in enumerate(ways.items()):
                    folder = Path(place) / str(number)
                    repository(folder, count)
                    took[way].append((*both_clocks(command, folder), seconds(command, folder)))
                    locks.add((folder / "dvc.lock").read_bytes())
            if len(locks) > 1:
                sys.exit("the dvc.lock files differ")
        for way, each in took.items():
            wall, processor, again = (statistics.median(column) for column in zip(*each, strict=True))
            drawn.setdefault(way, []).append((count, wall / count, again))
            print(
                f"{count:>6}  {way:<20} {wall:>8.1f} {wall / count:>9.2f} {processor:>10.1f} {processor / count:>9.2f} "
                f"{again:>11.1f}",
                flush=True,
            )
    if picture:
        draw(drawn, picture)


def draw(drawn: dict[str, list[tuple[int, float, float]]], file: Path) -> None:
    """Draw seconds per stage, and seconds with nothing to do, over the number of stages."""
    from matplotlib.ticker import FixedLocator

    from pipeline.figures.style import PAGE, common_look, legend_above, new_figure, plain_log_scale

    every = sorted({count for points in drawn.values() for count, _, _ in points})
    with common_look():
        figure, grid = new_figure(PAGE, 2.6, 1, 2)
        for (way, points), look in zip(drawn.items(), ("o-", "s--"), strict=False):
            counts, per_stage, again = zip(*points, strict=True)
            for axes, values in zip(grid[0], (per_stage, again), strict=True):
                axes.plot(counts, values, look, label=way)
        for axes, label in zip(grid[0], ("seconds per trivial stage", "seconds with nothing to do"), strict=True):
            plain_log_scale(axes, "x")
            plain_log_scale(axes, "y")
            axes.xaxis.set_major_locator(FixedLocator(every))
            axes.set_xlabel("stages")
            axes.set_ylabel(label)
        legend_above(figure, grid[0, 0])
        figure.savefig(file, dpi=150)


def overhead(before: str, rounds: int) -> None:
    """Print where the seconds of a stage go, before and now."""
    with tempfile.TemporaryDirectory() as place:
        folders = {}
        for way, commit in (("before", before), ("now", "HEAD")):
            folder = folders[way] = Path(place) / way
            subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
            subprocess.run(["git", "checkout", "-q", commit], cwd=folder, check=True)
            trained = [name for name in STAGES if name.startswith("train")]
            seconds([sys.executable, "-m", "pipeline", "repro", *trained], folder)
        found: dict[tuple[str, str], list[list[float]]] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for _ in range(rounds):
            for way, folder in folders.items():
                done = subprocess.run(
                    [sys.executable, "-c", PROBE, *STAGES],
                    cwd=folder,
                    env={**os.environ, "PATH": path},
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    sys.exit(done.stderr[-2000:])
                for line in done.stdout.splitlines()[1:]:
                    name, parts = json.loads(line)
                    found.setdefault((name.partition("@")[0], way), []).append(parts)
        print(f"{'stage':<14} {'':<7}" + "".join(f"{part:>19}" for part in PARTS) + f"{'all but own work':>19}")
        for (stage, way), each in sorted(found.items(), key=lambda item: item[0], reverse=True):
            parts = [statistics.median(column) for column in zip(*each, strict=True)]
            beyond = statistics.median(sum(row) - row[2] for row in each)
            print(f"{stage:<14} {way:<7}" + "".join(f"{part:>19.2f}" for part in parts) + f"{beyond:>19.2f}")


def graph(methods: int, seeds: int, jobs: int) -> None:
    """Print what the project's own graph of many stages costs."""
    from ruamel.yaml import YAML

    yaml = YAML()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "project"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)

        def edit(name: str, change: Callable[[Any], None]) -> None:
            read = yaml.load(folder / name)
            change(read)
            yaml.dump(read, folder / name)

        names = [f"naive-{number:03}" for number in range(methods)]
        edit(
            "methods.yaml",
            lambda known: known.update(
                {name: {"description": "SGD", "lr": 0.01 + i / 1e4} for i, name in enumerate(names)}
            ),
        )
        edit("params.yaml", lambda given: given.update(methods=names, seeds=list(range(1, seeds + 1))))
        edit("dvc.yaml", lambda pipeline: trivial(pipeline["stages"], folder))
        pipeline = [sys.executable, "-m", "pipeline", "repro", "-j", str(jobs)]
        plan = seconds([sys.executable, "-m", "stages.plan"], folder)
        seconds([*pipeline, "split"], folder)
        begun = time.time()
        wall, processor = both_clocks(pipeline, folder)
        first = min(path.stat().st_mtime for path in (folder / "models").glob("*/*/made")) - begun
        again, again_processor = both_clocks(pipeline, folder)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # KiB on Linux
    count = 2 * methods * seeds + 5
    print(
        f"{count} stages, {methods} methods with {seeds} seeds: plan {plan:.1f} s; the first training after {first:.1f} s"
    )
    print(f"all of them {wall:.0f} s, {wall / count:.2f} s and {processor / count:.2f} processor seconds per stage")
    print(f"nothing to do: {again:.1f} s, {again_processor:.1f} processor seconds; largest process {largest:.0f} MiB")


def trivial(stages: dict[str, Any], folder: Path) -> None:
    """Let every stage after the data only write its outputs, by a shell script with arguments as long as its own."""
    for name in ("train", "eigenspectrum", "summarize", "figures"):
        outputs = [*stages[name]["outs"], *stages[name].get("metrics", [])]
        lines = []
        for output in outputs:
            path = output if isinstance(output, str) else next(iter(output))
            path = path.replace("${item.method}", "$1").replace("${item.seed}", "$2")
            if path.endswith((".csv", ".json")):
                lines.append(f"mkdir -p {path.rpartition('/')[0]} && echo '{{}}' > {path}\n")
            else:
                lines.append(f"mkdir -p {path} && echo {path} > {path}/made\n")
        (folder / f"{name}.sh").write_text("".join(lines), encoding="utf-8")
        stages[name]["cmd"] = stages[name]["cmd"].replace(f"python -m stages.{name}", f"sh {name}.sh")


def main() -> None:
    """Measure the growth, the overhead or the graph."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="what", required=True)
    grow = commands.add_parser("growth")
    grow.add_argument("--counts", default="60,240,960")
    grow.add_argument("--jobs", type=int, default=2)
    grow.add_argument("--dvc", type=int, default=240, help="most stages to run by `dvc repro`, which takes long")
    grow.add_argument("--rounds", type=int, default=1)
    grow.add_argument("--picture", type=Path)
    over = commands.add_parser("overhead")
    over.add_argument("--before", default=BEFORE, help="the commit to compare with")
    over.add_argument("--rounds", type=int, default=3)
    many = commands.add_parser("graph")
    many.add_argument("--methods", type=int, default=50)
    many.add_argument("--seeds", type=int, default=20)
    many.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.what == "growth":
        growth([int(count) for count in given.counts.split(",")], given.jobs, given.dvc, given.rounds, given.picture)
    elif given.what == "graph":
        graph(given.methods, given.seeds, given.jobs)
    else:
        overhead(given.before, given.rounds)


if __name__ == "__main__":
    main()
