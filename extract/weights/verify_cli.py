"""`mgx checkpoint verify`: weights held against what their makers printed."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from mgx.shared.errors import NotThere, WorkFailed
from mgx.shared.home import Home
from mgx.shared.options import device_option, json_option
from mgx.shared.progress import say

EXAMPLES = """
\b
Examples:
  mgx checkpoint verify imagebind --examples ~/ImageBind
  mgx checkpoint verify languagebind --examples ~/LanguageBind --json
"""


@click.command("verify", epilog=EXAMPLES)
@click.argument("name")
@click.option(
    "--examples", type=click.Path(path_type=Path), help="The makers' repository, in which their example files are."
)
@click.option(
    "--canaries", type=click.Path(path_type=Path), help="A file of published numbers, in place of the one inside mgx."
)
@device_option
@json_option("Print the answers as JSON.")
@click.pass_obj
def verify(home: Home, name: str, examples: Path | None, canaries: Path | None, device: str, as_json: bool) -> None:
    """Check weights against numbers that their makers published.

    The perceptor NAME embeds its makers' own example files; the results are compared with theirs.
    Exit code 1: something differs, so these are other weights, or they were loaded wrongly. 2: nothing could be run.
    """
    from mgx.extract.perceptor import open_perceptor
    from mgx.extract.weights.canaries import examples_of, find_canary
    from mgx.extract.weights.canaries import verify as answers_of
    from mgx.shared.device import check_device

    canary = find_canary(name, canaries)
    perceptor = open_perceptor(canary.perceptor, home, check_device(device), "float32")
    folder = examples_of(canary, home, examples)
    answers = answers_of(canary, perceptor, folder, lambda modality: say(f"{canary.perceptor}: {modality} ..."))
    if as_json:
        click.echo(json.dumps([asdict(answer) for answer in answers], indent=1))
    else:
        for answer in answers:
            click.echo(f"{answer.comparison}: {answer.state}" + (f": {answer.reason}" if answer.reason else ""))
            if answer.state == "differs":
                for printed, found in zip(answer.expected, answer.found, strict=True):
                    click.echo(f"  printed {'  '.join(printed)}; here {'  '.join(f'{p:.4g}' for p in found)}")
    if differing := [answer.comparison for answer in answers if answer.state == "differs"]:
        raise WorkFailed(
            f"{canary.perceptor}: {', '.join(differing)} is not what its makers printed ({canary.origin}). "
            "Get the weights again: mgx checkpoint fetch " + canary.perceptor + " --verify"
        )
    if all(answer.state == "cannot be run" for answer in answers):
        raise NotThere(f"{canary.perceptor}: nothing could be compared.")
