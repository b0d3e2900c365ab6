"""`transect app`: what it prints, serves, and opens in a browser."""

import os
import subprocess
import sys
import time
from pathlib import Path


def test_a_browser_is_opened_with_a_code_and_never_with_the_token(home: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "transect", "app", str(home)]
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BROWSER": f"{browser} %s"},
    )
    try:
        assert server.stdout is not None
        address, token = server.stdout.readline().strip().split("/?token=")
        for _ in range(1000):
            if opened.is_file():
                break
            time.sleep(0.02)
        asked = opened.read_text()
        assert asked.startswith(f"{address}/?code=")
        assert token not in asked
    finally:
        server.terminate()
        server.communicate(timeout=20)


def test_the_command_prints_its_address_alone_and_serves(home: Path) -> None:
    import httpx

    command = [
        sys.executable,
        "-c",
        "from transect.cli.main import main; main()",
        "app",
        str(home),
        "--port",
        "0",
        "--no-browser",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        base, token = address.split("/?token=")
        assert len(token) >= 24
        page = httpx.get(address, follow_redirects=True, timeout=60)
        assert str(page.url) == f"{base}/"
        assert (page.status_code, "page.js" in page.text) == (200, True)
        assert httpx.get(f"{base}/api/catalog", headers={"x-transect-token": token}, timeout=60).json()[
            "studies"
        ]
        assert httpx.get(f"{base}/api/catalog", timeout=60).status_code == 403
        port = base.rsplit(":", 1)[1]
        again = subprocess.run(
            [*command[:3], "app", str(home), "--port", port, "--no-browser"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (again.returncode, f"port {port} cannot be used" in again.stderr, again.stdout) == (
            2,
            True,
            "",
        )
    finally:
        server.terminate()
        out, _ = server.communicate(timeout=20)
    assert out == ""
