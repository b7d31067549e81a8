"""`authapi providers`: shows and checks the providers at which people log in."""

import typer

from authapi.cli.application import settings_of
from authapi.cli.terminal.options import JSONOption, PlainOption
from authapi.cli.terminal.tables import print_list
from authapi.diagnostics.providers import ask_all
from authapi.outbound.upstreams.registry import Upstreams

app = typer.Typer(help="Show and check the providers of logins.", no_args_is_help=True)

_EMPTY = "No providers."


@app.command("list")
def list_providers(plain: PlainOption = False, as_json: JSONOption = False) -> None:
    """List the providers, with the redirect URI to enter in the settings of each."""
    upstreams = Upstreams(settings_of())
    rows: list[dict[str, object]] = [
        {
            "name": name,
            "title": upstreams[name].title,
            "issuer": upstreams[name].provider.issuer,
            "client_id": upstreams[name].provider.client_id,
            "redirect_uri": upstreams.redirect_uri(name),
        }
        for name in upstreams
    ]
    print_list(rows, empty=_EMPTY, as_json=as_json, plain=plain)


@app.command()
def check(plain: PlainOption = False, as_json: JSONOption = False) -> None:
    """Ask each provider for its metadata and keys. Exit with 1 if one does not answer as it should.

    No login takes place, so client ids, secrets and redirect URIs are not checked.
    """
    upstreams = Upstreams(settings_of())
    problems = ask_all(upstreams) if upstreams else {}
    rows: list[dict[str, object]] = [
        {
            "name": name,
            "answers": problem is None,
            "problem": problem,
            "redirect_uri": upstreams.redirect_uri(name),
        }
        for name, problem in problems.items()
    ]
    print_list(rows, empty=_EMPTY, as_json=as_json, plain=plain)
    if any(problem is not None for problem in problems.values()):
        raise typer.Exit(1)
