"""Bundles on the Hugging Face hub, by the package huggingface_hub (`pip install 'seeward[hub]'`), whose environment
(HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME) counts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import _native
from .errors import BundleError

MANIFEST = "reward_model.json"


def download(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a bundle: the one at the path if there is one, else that of the hub's repository, of which the
    bundle's files alone are downloaded, and each is compared with the hash that the bundle gives it.

    Raises BundleError if the repository has no bundle or a changed one, and what huggingface_hub raises.
    """
    if os.path.isdir(name_or_path):
        return Path(name_or_path)
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name = os.fspath(name_or_path)
    options: dict[str, Any] = {"revision": revision, "token": token, "local_files_only": local_files_only}
    try:
        manifest = hf_hub_download(name, MANIFEST, **options)
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        raise BundleError(f"{name}: expected a bundle, got a repository without {MANIFEST}") from error
    folder = Path(snapshot_download(name, allow_patterns=files(Path(manifest)), **options))
    _native.verify_bundle(os.fspath(folder))
    return folder


def files(manifest: Path) -> list[str]:
    """The names of a bundle's files, as its manifest has them."""
    content = json.loads(manifest.read_text())
    images = [image for probe in content["probes"] for image in probe["images"]]
    return [MANIFEST, *content["files"], *content["tokenizer"], *images]


def push(
    bundle: str | os.PathLike[str],
    repo_id: str,
    *,
    report: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    commit_message: str = "Upload the reward model",
) -> str:
    """Uploads a bundle and a model card to a repository, which is created if it does not exist. Returns the commit's address.

    report: the `report.json` of `seeward-evaluate`, for the card's table. licence: of the weights, for the card's head, such
    as apache-2.0; the card has none if it is not given.
    """
    from huggingface_hub import HfApi

    folder = Path(bundle)
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder}: expected a bundle, got a folder without {MANIFEST}")
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    text = card(folder, repo_id, report=report, licence=licence)
    uploaded = api.upload_folder(
        repo_id=repo_id, folder_path=folder, allow_patterns=files(folder / MANIFEST), commit_message=commit_message
    )
    api.upload_file(
        repo_id=repo_id, path_or_fileobj=text.encode(), path_in_repo="README.md", commit_message="Describe the reward model"
    )
    return str(uploaded.commit_url)


def card(
    bundle: str | os.PathLike[str],
    repo_id: str,
    *,
    report: str | os.PathLike[str] | None = None,
    licence: str | None = None,
) -> str:
    """The model card of a bundle: how it is used, what it is, and what an evaluation measured.

    >>> from seeward import hub
    >>> print(hub.card("bundles/mine", "me/mine").splitlines()[1])
    library_name: seeward
    """
    manifest = (Path(bundle) / MANIFEST).read_text()
    measured = None if report is None else Path(report).read_text()
    return _native.model_card(manifest, repo_id, measured, licence)
