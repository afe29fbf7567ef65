"""`openr-data publish` (alias `push`) and `pull`."""

import click

from ..errors import UsageError
from ..huggingface.publish import publish, sizes
from ..huggingface.pull import pull
from ..store import Store
from ..store.refs import MAIN, DatasetName
from .output import Output, hint, note, output_options, size


@click.command("publish")
@click.argument("name")
@click.argument("repo")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--license", "license_", default="other", show_default=True, help="The licence, as the Hub writes it.")
@click.option("--no-rollouts", is_flag=True, help="Leave out the rollouts (the evidence, and most of the bytes).")
@click.option("--dry-run", is_flag=True, help="List what would be sent; send nothing.")
@output_options
@click.pass_obj
def publish_(
    store: str, /, name: str, repo: str, private: bool, license_: str, no_rollouts: bool, dry_run: bool, out: Output
) -> None:
    """Publish NAME or NAME@ref as the dataset REPO (ORG/NAME) of the Hugging Face Hub.

    load_dataset("ORG/NAME", "records") then works, and so do "steps", "questions", "nodes". Files that the Hub has
    already are not sent again; after a failure the same command continues. The token comes from HF_TOKEN or a login.

    \b
    Example:
      openr-data publish math-aps@v1 openr/math-aps --license mit --dry-run
    """
    wanted = DatasetName.parse(name)
    dataset = Store.open(store).dataset(wanted.name, write=not dry_run)
    published = publish(
        dataset,
        wanted.ref,
        repo,
        private=private,
        license_=license_,
        rollouts=not no_rollouts,
        dry_run=dry_run,
        report=lambda text: note(f"  {text}") if out.is_human else None,
    )
    if dry_run:
        out.rows([{"file": item.path, "state": item.state, "bytes": item.bytes} for item in published.files])
    for state, (count, total) in sizes(published.files).items():
        note(f"  {count:,} files {state}, {size(total)}")
    if dry_run:
        note(f"Nothing was sent to {published.url}.")
        return
    out.facts(
        {
            "url": published.url,
            "revision": published.revision,
            "tag": published.tag,
            "snapshot": f"{wanted.name}@{published.snapshot}",
        }
    )
    hint(f"Take it back anywhere with: openr-data pull {repo}@{published.tag}")


@click.command("pull")
@click.argument("repo")
@click.option("--into", default="", help="The dataset to write into (default: the name it was published from).")
@output_options
@click.pass_obj
def pull_(store: str, /, repo: str, into: str, out: Output) -> None:
    """Download the published dataset REPO (ORG/NAME or ORG/NAME@tag) from the Hub and check every id and digest.

    \b
    Example:
      openr-data pull openr/math-aps@v1 --into math-aps
    """
    if into and DatasetName.parse(into).ref != MAIN:
        raise UsageError(f"A pull writes to the newest state of a dataset: --into {into.partition('@')[0]}, without @.")
    repo, _, revision = repo.partition("@")
    pulled = pull(store, repo, revision, into)
    rows = ", ".join(f"{count:,} {table}" for table, count in pulled.added.items() if count) or "nothing new"
    note(f"{rows} from {repo}@{pulled.revision[:12]}; every id and digest holds.")
    if out.is_human:
        click.echo(f"{pulled.dataset}@{pulled.snapshot.name}")
    else:
        name = f"{pulled.dataset}@{pulled.snapshot.name}"
        out.facts({"dataset": name, "revision": pulled.revision, "added": dict(pulled.added)})
