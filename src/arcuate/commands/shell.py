"""What every command has in common: options, how habits of other tools are read, and what its help shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from arcuate.commands.manual import MANUAL
from arcuate.errors import did_you_mean, warn

_NUMBER = re.compile(r"-\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)
POSITIONAL = "a file without an option"
# Spellings of MRtrix3, FSL and DIPY: the option meant, for commands that have it and not the spelling itself.
ALIASES = {
    "--out": "out-dir outdir output-dir output-folder out-path out-mask out-denoised odir",
    "--bval": "bvals bvals-files bval-file b",
    "--bvec": "bvecs bvecs-files bvec-file r",
    "--as-amico": "amico",
    "--mask": "mask-file mask-files brain-mask brainmask m",
    "--threads": "nthread num-threads n-threads nprocs num-processes ncpus",
    "--n-peaks": "num npeaks",
    "--noise": "noise-map out-noise",
    "--force": "overwrite",
    "--verbose": "info",
    POSITIONAL: "k data input-files",
}
_MEANT = {spelling: option for option, spellings in ALIASES.items() for spelling in spellings.split()}


def is_asked_for(what: str) -> bool:
    """Whether ``quiet``, ``verbose``, ``force`` or ``dry_run`` was given to the command that runs."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(f"arcuate.{what}"))


def tell(text: str) -> None:
    """Print what a command has to say when it is done, unless it was asked to be quiet."""
    from arcuate.commands.working import hide_work

    hide_work()
    if not is_asked_for("quiet"):
        click.echo(text)


class Choice(click.Choice):
    """One of several words, in upper or lower case; a misspelt one is answered with the nearest."""

    def __init__(self, choices: Iterable[str]) -> None:
        super().__init__(tuple(choices), case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).lower() in [str(choice).lower() for choice in self.choices]:
            return super().convert(value, param, ctx)
        name = long_name(param) if param is not None and param.opts else "the option"
        words = ", ".join(self.choices)
        raise click.BadParameter(
            f"found {name} {value}; expected one of {words}.{did_you_mean(str(value), self.choices)}"
        )


def long_name(param: click.Parameter) -> str:
    """What messages call an option or argument: the first spelling with two dashes, ``--out`` of ``-o, --out``."""
    if isinstance(param, click.Argument):
        return param.human_readable_name.strip("[]. ")
    return next((spelling for spelling in param.opts if spelling.startswith("--")), param.opts[-1])


class ArcuateCommand(click.Command):
    """A command with the options that all have, which reads the spellings of MRtrix3, FSL and DIPY as well.

    One with ``--out`` has ``--force`` and ``--dry-run``, and calls :func:`arcuate.commands.written.check_outputs`, and
    its step within ``until_voxels`` (or ``begin_work`` before it).
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        names = {param.name for param in self.params}
        writes = "out" in names
        for name, flags, what in (
            ("force", ("--force",), "Replace files there that no earlier call of this command wrote."),
            ("dry_run", ("--dry-run",), "Check everything, say what would be done and written, and end."),
            ("quiet", ("-q", "--quiet"), "Say nothing but warnings and errors."),
            ("verbose", ("-v", "--verbose"), "Say more: files found, volumes, shells."),
        ):
            if name not in names and (writes or name in {"quiet", "verbose"}):
                self.params.append(_flag(name, flags, what))
        self.params.append(
            click.Option(
                ["--version"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=show_version,
                help="Print the version of arcuate.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = self._with_output_named(ctx, respell(args, self._options(ctx)))
        self._warn_of_repeats(ctx, list(words))
        return super().parse_args(ctx, words)

    def _warn_of_repeats(self, ctx: click.Context, words: list[str]) -> None:
        """Warn of options given twice that take one value: the last one counts, as in most programs."""
        if ctx.resilient_parsing:
            return
        try:
            order = self.make_parser(ctx).parse_args(words)[2]
        except click.UsageError:
            return  # is told when the words are parsed in earnest
        single = [p for p in order if isinstance(p, click.Option) and not (p.multiple or p.is_flag or p.count)]
        for param in dict.fromkeys(p for p in single if single.count(p) > 1):
            warn(f"{long_name(param)} was given {single.count(param)} times; the last one counts.")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        manual = MANUAL.get(ctx.command_path.removeprefix("arcuate ").strip())
        if manual is None:
            return
        for title, lines in (("Examples", manual.examples), ("Writes", manual.writes), ("Cite", manual.papers)):
            if lines:
                with formatter.section(title):
                    for line in lines:
                        if title == "Examples":
                            formatter.write(f"  {line}\n")  # in one line, to be copied
                        else:
                            formatter.write_text(line)

    def _options(self, ctx: click.Context) -> dict[str, click.Option]:
        found = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option):
                found.update(dict.fromkeys([*param.opts, *param.secondary_opts], param))
        return found

    def _with_output_named(self, ctx: click.Context, words: list[str]) -> list[str]:
        """Where one image comes out and ``--out`` was not given: the last of several names is the output."""
        from arcuate.commands.paths import OutImage

        out = next((param for param in self.params if param.name == "out"), None)
        if out is None or not isinstance(out.type, OutImage) or ctx.resilient_parsing:
            return words
        try:
            given, rest, _ = self.make_parser(ctx).parse_args(list(words))
        except click.UsageError:
            return words
        arguments = [given.get(param.name or "") for param in self.params if isinstance(param, click.Argument)]
        names = [name for value in arguments for name in (value if isinstance(value, tuple) else [value]) if name]
        names += rest
        if "out" in given or len(names) < 2 or (len(names) > 2 and not isinstance(arguments[0], tuple)):
            return words
        last = len(words) - 1 - words[::-1].index(names[-1])
        return [*words[:last], *words[last + 1 :], "--out", names[-1]]


def respell(words: list[str], options: dict[str, click.Option]) -> list[str]:
    """The words of a command line with the spellings of other tools replaced by those of ``options``."""
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*found, word, *rest]
        name, equals, value = word.partition("=")
        stem = name.lstrip("-")
        if not word.startswith("-") or len(word) < 2 or _NUMBER.fullmatch(word):
            found.append(word)
        elif stem.lower() == "fslgrad" and "--bvec" in options:
            if len(rest) < 2:
                raise click.UsageError(f"found {word} with {len(rest)} files; expected two: -fslgrad BVECS BVALS.")
            found += ["--bvec", rest.pop(0), "--bval", rest.pop(0)]
        else:
            option = _option_meant(name, options)
            if option == POSITIONAL:
                found += [value] if equals else []
            else:
                found.append(option + equals + value)
    return found


def _option_meant(name: str, options: dict[str, click.Option]) -> str:
    """The option that a spelling means, or the spelling itself."""
    if name in options:
        return name
    stem = name.lstrip("-").replace("_", "-").lower()
    for known in (f"--{stem}", f"--{stem.replace('-', '_')}"):
        if known in options:
            return known
    meant = _MEANT.get(stem, "")
    return meant if meant in options or (meant == POSITIONAL and "--bval" in options) else name


def show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the version and end."""
    if value:
        from arcuate._version import __version__

        click.echo(f"arcuate {__version__}")
        ctx.exit()


def _flag(name: str, flags: tuple[str, ...], what: str) -> click.Option:
    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[f"arcuate.{name}"] = value

    return click.Option([*flags, name], is_flag=True, expose_value=False, is_eager=True, callback=note, help=what)
