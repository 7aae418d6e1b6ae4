"""Fetching one large file over a slow and unreliable line."""

import hashlib
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from tqdm import tqdm

DOWNLOAD_ATTEMPTS = 4
TIMEOUT_SECONDS = 60


class DownloadError(OSError):
    """The file could not be fetched."""


def download(archive: Path, url: str, md5: str) -> None:
    """Fetch `url` to `archive`, going on where a broken download stopped.

    Raises:
        DownloadError: it failed time and again, or is not the file with that md5.
    """
    part = archive.with_name(archive.name + ".part")
    reason = "unknown"
    for attempt in range(DOWNLOAD_ATTEMPTS):
        if attempt:
            time.sleep(min(2**attempt, 10))
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            _fetch(url, part)
            with part.open("rb") as file:
                found = md5_of(file)
            if found == md5:
                os.replace(part, archive)
                return
            part.unlink()  # whole but wrong: going on from it cannot help
            reason = f"md5 of the download is {found}"
        except (OSError, ValueError) as error:  # URLError, time-outs and a full disk among them
            reason = str(error) or type(error).__name__
    raise DownloadError(f"{url} failed {DOWNLOAD_ATTEMPTS} times: {reason}")


def md5_of(file: IO[bytes]) -> str:
    """The md5 of an open file, in hexadecimal."""
    digest = hashlib.md5()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _fetch(url: str, part: Path) -> None:
    """Append to `part` what is missing of `url`, with a progress bar."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing; the md5 decides whether it is right
            return
        raise
    with response:
        resumed = response.status == 206
        length = int(response.headers.get("Content-Length") or 0)
        total = length + (have if resumed else 0)
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(total=total or None, initial=have if resumed else 0, unit="B", unit_scale=True,
                 desc="CIFAR-10", disable=None) as bar,
        ):  # fmt: skip
            while block := response.read(1 << 16):
                file.write(block)
                bar.update(len(block))
    if total and part.stat().st_size < total:
        raise OSError(f"connection closed after {part.stat().st_size} of {total} bytes")
