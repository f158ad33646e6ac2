"""What other programs have fetched from the hub: the cache of huggingface_hub, which is read and never written."""

from pathlib import Path


def cached_commit(repo: str, revision: str) -> Path | None:
    """The folder of a commit, by the beginning of its name, in the cache of huggingface_hub."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    root = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "snapshots"
    return next(iter(sorted(root.glob(f"{revision}*"))), None)
