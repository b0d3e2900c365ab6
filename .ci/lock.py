"""Write the hashes of every pinned file into constraints.txt: `python .ci/lock.py`.

Pins stay as they are; hashes come from the package index, for the Pythons and platforms that the project
names. torch has none: indexes serve builds of their own for processors and accelerators.
"""

import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pip._internal.models.index import PyPI
from pip._vendor.packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

LOCK = Path(__file__).parents[1] / "constraints.txt"
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}
PYTHONS = {"py3", "py2.py3", "cp311", "cp312", "cp313", "cp314"}
PLATFORMS = re.compile(r"any|(manylinux|linux).*(x86_64|aarch64)|macosx.*(x86_64|arm64|universal2)|win_amd64")


def fits(name: str, version: str) -> bool:
    """Whether a file is of this version and for a Python and platform that the project names."""
    try:
        if name.endswith((".tar.gz", ".zip")):
            return str(parse_sdist_filename(name)[1]) == version
        _, its, _, tags = parse_wheel_filename(name)
    except ValueError:
        return False
    return str(its) == version and any(
        (t.interpreter in PYTHONS or t.abi == "abi3") and PLATFORMS.fullmatch(t.platform) for t in tags
    )


def hashes(pin: str) -> list[str]:
    """SHA-256 of every file of a pin, sorted."""
    name, version = pin.split("==")
    if name == "torch":
        return []
    request = urllib.request.Request(f"{PyPI.simple_url}/{canonicalize_name(name)}/", headers=JSON)
    with urllib.request.urlopen(request, timeout=120) as answer:
        files = json.load(answer)["files"]
    found = [f["hashes"]["sha256"] for f in files if fits(f["filename"], version)]
    assert found, f"{pin}: the index holds no file of it"
    return sorted(found)


def main() -> None:
    """Read the pins, ask the index, write the lock."""
    text = LOCK.read_text().splitlines()
    head = [line for line in text if line.startswith("#")]
    pins = [line.rstrip(" \\") for line in text if re.match(r"\w", line)]
    with ThreadPoolExecutor(8) as pool:
        known = dict(zip(pins, pool.map(hashes, pins), strict=True))
    body = [" \\\n".join([pin, *(f"    --hash=sha256:{h}" for h in all_)]) for pin, all_ in known.items()]
    LOCK.write_text("\n".join([*head, *body]) + "\n")
    print(f"{LOCK.name}: {len(known)} pins, {sum(map(len, known.values()))} hashes")


if __name__ == "__main__":
    main()
