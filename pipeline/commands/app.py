"""The commands of `tag-pipeline`, with their arguments and options."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands import values
from pipeline.support.errors import UserError, nearest, run_stage

PROGRAM = "tag-pipeline"
#: What Typer makes of Ctrl-C while it parses arguments.
INTERRUPTED = 130

app = typer.Typer(
    name=PROGRAM,
    help="Rerun the experiments of TAG and Stable SGD. Each command has its own --help; docs/running.md tells more.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", parser=values.jobs, metavar="N", help="At once (default: the cores).")
]
#: Typed as anything, for Typer lets an option that is typed as a list be given several times.
Seeds = Annotated[Any, typer.Option("--seeds", parser=values.seeds, metavar="SEED,SEED", help="Only these seeds.")]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Of a running Dask scheduler, such as tcp://host:8786.")
]
METHODS = values.keys_of("methods.yaml")
SAMPLERS = ("grid", "tpe", "random")
#: What arguments are called where they are no option of the same name.
WORDS = {"origin": "--from", "experiment": "NAME", "old": "OLD", "new": "NEW", "name": "NAME"}


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Declare a command, named as the function, whose errors are told as those of a stage are."""
    name = function.__name__

    @functools.wraps(function)
    def told(**given: Any) -> None:
        run_stage(name, lambda: _in_a_project(function, given))

    app.command(name)(told)
    return told


def _refuse_other_code() -> None:
    """Raise UserError if the program belongs to another clone than the current folder, which has code of its own.

    As where the environment of one clone is active in a copy of it, or in a worktree. `python -m pipeline` takes the code of
    the folder.
    """
    ours, running = Path("pipeline/__init__.py"), Path(__file__).parents[1]
    if Path(sys.argv[0]).stem == PROGRAM and ours.exists() and ours.parent.resolve() != running.resolve():
        raise UserError(
            f"this would run the code of {running.parent}, not of this folder; run 'python -m pipeline' instead, or activate "
            "this folder's own environment"
        )


def _in_a_project(function: Callable[..., None], given: Mapping[str, Any]) -> None:
    """Run a command; raises UserError outside a project, where each would miss another file."""
    if not any(Path(name).exists() for name in ("dvc.yaml", "params.yaml")):
        raise UserError("neither dvc.yaml nor params.yaml is here; run it in the project's folder")
    for option, value in given.items():
        if value == "":  # as an unset variable of a shell gives it
            told = WORDS.get(option, f"--{option.replace('_', '-')}")
            raise UserError(f"{told}: is empty; give it a value or leave it out")
    _refuse_other_code()
    function(**given)


@command
def repro(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="STAGE", help="As train or train@tag-1 (default: all).")
    ] = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    clone_from: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Workers run in clones of this Git repository; results come by DVC's remote."),
    ] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="A stage of train and eigenspectrum waits for a GPU of its own.")
    ] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Only list the stages that would run.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure run what does not depend on it.")
    ] = False,
    no_run_cache: Annotated[
        bool,
        typer.Option("--no-run-cache", help="Run train and eigenspectrum even if DVC's run-cache has their results."),
    ] = False,
) -> None:
    """Run the stale stages side by side, here or on a cluster.

    The results, and dvc.lock, are byte for byte those of `dvc repro`.
    """
    from pipeline.parallel.command import repro

    repro(targets or [], jobs, scheduler, clone_from, gpu, dry, keep_going, not no_run_cache)


@command
def reproduce(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="An experiment of experiments.yaml; without it, list them.",
            autocompletion=values.keys_of("experiments.yaml"),
        ),
    ] = None,
    jobs: Jobs = None,
    methods: Annotated[
        str | None, typer.Option(metavar="METHOD,METHOD", help="Only these methods.", autocompletion=METHODS)
    ] = None,
    seeds: Seeds = None,
    origin: Annotated[
        str | None,
        typer.Option("--from", metavar="FOLDER", help="Run nothing; take finished runs from another clone."),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Run nothing; renew the report from the records; without NAME, docs/reproductions.md."
        ),
    ] = False,
    scheduler: Scheduler = None,
) -> None:
    """Rerun a published experiment, or list them.

    Runs what is missing of it, and compares the results with the published numbers.
    """
    from pipeline.experiments.command import reproduce

    reproduce(experiment, jobs, methods, seeds, None if origin is None else Path(origin), report, scheduler)


# Typer gives a default to the parser of its option, too, as if it had been typed: it must be a text.
@command
def tune(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD... KEY=VALUE,VALUE...",
            help="Methods, and what to try: lr=0.1,0.2, or a range as dropout=0..0.5 or lr=0.001..0.1:log.",
            autocompletion=METHODS,
        ),
    ],
    benchmark: Annotated[
        str | None,
        typer.Option(help="(default: that of params.yaml)", autocompletion=values.keys_of("benchmarks.yaml")),
    ] = None,
    seeds: Seeds = None,
    jobs: Jobs = None,
    sampler: Annotated[
        str,
        typer.Option(
            parser=values.one_of("--sampler", SAMPLERS),
            metavar="|".join(SAMPLERS),
            help="Which values to try.",
            autocompletion=values.words(SAMPLERS),
        ),
    ] = "grid",
    trials: Annotated[
        int | None,
        typer.Option(
            parser=values.whole("--trials"), metavar="N", help="How many values to try, other than for a grid (30)."
        ),
    ] = None,
    sampler_seed: Annotated[
        int | None,
        typer.Option(
            parser=values.seed("--sampler-seed"), metavar="SEED", help="Of the sampler, other than for a grid (0)."
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop a trial that is below the median of the others after a task.")
    ] = False,
    batch: Annotated[
        Any,
        typer.Option(
            parser=values.whole("--batch"),
            metavar="N",
            help="Trials that do not look at each other's results, so that they can run side by side.",
        ),
    ] = "4",
    record: Annotated[
        str | None, typer.Option(parser=values.name("--record"), metavar="NAME", help="(default: the method's)")
    ] = None,
) -> None:
    """Search settings on validation data.

    Every run is kept in results/tuning/. A search that is killed goes on when it is started again.
    """
    from pipeline.search.tuning import tune

    tune(words, benchmark, seeds, jobs, sampler, trials, sampler_seed, prune, batch, record)


@command
def best(
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="METHOD", help="(default: all methods of the experiments)", autocompletion=METHODS),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="average_accuracy, forgetting, learning_accuracy or largest_eigenvalue.",
            autocompletion=values.words(("average_accuracy", "forgetting", "learning_accuracy", "largest_eigenvalue")),
        ),
    ] = "average_accuracy",
    evaluation: Annotated[
        str,
        typer.Option(
            parser=values.one_of("--evaluation", ("validation", "test")),
            metavar="validation|test",
            help="The images that experiments were judged on.",
            autocompletion=values.words(("validation", "test")),
        ),
    ] = "validation",
) -> None:
    """Show the best settings of DVC experiments."""
    from pipeline.search.best import best

    best(methods or [], metric, evaluation)


@command
def compare(
    old: Annotated[
        str | None, typer.Argument(metavar="OLD", help="A revision of Git or a DVC experiment (default: HEAD).")
    ] = None,
    new: Annotated[str | None, typer.Argument(metavar="NEW", help="The same (default: the workspace).")] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="METHOD,METHOD", help="Only these methods.", autocompletion=METHODS)
    ] = None,
) -> None:
    """Show what changed between two versions of the results.

    The runs are paired by seed, and each change has its 95 % interval.
    """
    from pipeline.search.compare import compare

    compare(old, new, methods)


@command
def record(
    name: Annotated[
        str, typer.Argument(parser=values.name("NAME"), metavar="NAME", help="Name of the folder below results/.")
    ],
) -> None:
    """Keep the last run under results/NAME/.

    With what no DVC output may hold: seconds, machines and the commit.
    """
    from pipeline.report.record import record

    record(name)


@command
def gallery() -> None:
    """Renew the README's table and pictures."""
    from pipeline.report.gallery import renew

    renew()


@command
def docs() -> None:
    """Renew the tables of docs/parameters.md."""
    from pipeline.config.tables import renew

    renew()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The command-line arguments; None means those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser: Any = typer.main.get_command(app)
    chosen = given[0] if given else "--help"  # no option of the program itself takes a value

    def run() -> None:
        if not chosen.startswith("-") and chosen not in parser.commands:
            raise UserError(f"unknown command '{chosen[:80]}'; {nearest(chosen, parser.commands)}")
        try:
            code = parser.main(given or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        except typer.TyperException as error:
            raise UserError(_told(error, known)) from None
        # Typer returns the status with which it would have ended the process; commands themselves return nothing.
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if isinstance(code, int) and code:
            sys.exit(code)

    known = chosen if chosen in parser.commands else None
    run_stage(known or PROGRAM, run)


def _told(error: typer.TyperException, command: str | None) -> str:
    """What is wrong with the arguments of a command (None: of the program), in the project's words."""
    context: Any = getattr(error, "ctx", None)
    see = f"see {PROGRAM} {command} --help" if command else f"see {PROGRAM} --help"
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and option and context:
        allowed = [word for parameter in context.command.params for word in parameter.opts if word.startswith("--")]
        return f"unknown option '{option[:80]}'; {nearest(option, allowed)}; {see}"
    message = error.format_message().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; {see}"
