"""Options for the model of a command: a checkpoint, or a grounder that was not trained here."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from clipvg.cli.options import add_shared
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.runtime.imports import refuse_code

if TYPE_CHECKING:
    from clipvg.grounders import Grounder


def add_model(parser: CommandParser, *, observations: str) -> None:
    """Add --checkpoint and --grounder, and the backbone and observations of a grounder.

    Args:
        parser: parser of the command.
        observations: what --observations are for, as the help says it.
    """
    add_shared(parser, "--checkpoint", "--grounder", needed=False)
    parser.add_argument(
        "--backbone", metavar="NAME",
        help="the CLIP that --grounder reclip, heatmap or gradcam looks with; by default ViT-B-16",
    )  # fmt: skip
    parser.add_argument(
        "--observations", nargs="+", default=[], metavar="FILE",
        help=f"what detectors say about the images, as `clipvg generate` reads it: {observations}",
    )  # fmt: skip


def check_model(args: Namespace) -> None:
    """Refuse a command that names no model or two, or a backbone for a checkpoint."""
    if file := args.files.get("grounder"):
        refuse_code(args.grounder.partition(",")[0], "grounder", file)
    if args.checkpoint and args.grounder:
        raise InputError("--checkpoint and --grounder are two models; leave one of them out")
    if not (args.checkpoint or args.grounder):
        raise InputError("missing --checkpoint CKPT, or --grounder NAME: one of them is the model")
    if args.backbone and not args.grounder:
        raise InputError("--backbone goes with --grounder; a --checkpoint has its own")


def make_grounder(args: Namespace) -> Grounder:
    """Return the grounder that a command names, with its backbone and observations."""
    from clipvg.grounders import build_grounder
    from clipvg.pseudo.reading import read_observations

    observed = None
    if args.observations:
        observed = read_observations(args.observations, images=args.images)
    return build_grounder(
        args.grounder, device=args.device, backbone=args.backbone, observations=observed
    )
