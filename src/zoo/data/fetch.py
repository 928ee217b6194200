"""Download a published file from the first mirror that has it, complete and unaltered."""

import gzip
import hashlib
import http.client
import os
import sys
import time
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from zoo.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Refused(Exception):
    """Why a mirror did not provide the file; another try would not help."""


def fetch(folder, name, sha256, mirrors, timeout_s=15.0, tries=3, pause_s=1.0, slowest_bytes_per_s=2000):
    """Return the content (bytes) of a file, decompressed if it is gzipped, after checking its sha256.

    `folder`/`name` in the environment variable ZOO_MIRROR, a folder or URL, is tried first, then `mirrors`, URLs to
    which `name` is appended, in order. Transient failures (no connection, no byte for `timeout_s`, less than
    `slowest_bytes_per_s` on average after that time, a truncated transfer, status 429 or 5xx) are tried `tries`
    times. Everything is held in memory, so a failure leaves no partial file. If no mirror has the file, raises
    InputError with one message that lists every address and why it failed.
    """
    own, file, failures = os.environ.get("ZOO_MIRROR"), f"{folder}/{name}", []
    addresses = ([f"{own.rstrip('/')}/{file}"] if own else []) + [mirror + name for mirror in mirrors]
    for address in addresses:
        try:
            if "://" in address:
                packed = patiently(address, timeout_s, tries, pause_s, slowest_bytes_per_s)
            else:
                packed = Path(address).read_bytes()
            content = checked(packed, sha256)
        except (Refused, OSError) as error:
            failures.append(f"{address} ({getattr(error, 'strerror', error)})")
        else:
            if failures:
                print(f"{file} was fetched from {address} after {'; '.join(failures)}", file=sys.stderr)
            return content
    raise InputError(
        f"{file} could not be fetched from any of {len(addresses)} addresses: {'; '.join(failures)}. Try again later, "
        f"set ZOO_MIRROR to a folder or address that holds {file}, or use the quick profile (`dvc repro`), which needs "
        "no network"
    )


def checked(packed, sha256):
    """Return the content, decompressed if it is gzipped. Raises Refused if it is damaged or its sha256 differs."""
    try:
        content = gzip.decompress(packed) if packed.startswith(b"\x1f\x8b") else packed
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Refused(f"damaged gzip file: {error}") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise Refused(f"wrong content: {len(content)} bytes, {content[:12]!r}..., sha256 {found}")
    return content


def patiently(address, timeout_s, tries, pause_s, slowest_bytes_per_s):
    """Return what `download` returns, trying up to `tries` times. Raises Refused."""
    for attempt in range(1, tries + 1):
        if attempt > 1:
            time.sleep(pause_s)
        try:
            return download(address, timeout_s, slowest_bytes_per_s)
        except (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            reason = f"timed out: {error}" if isinstance(error, TimeoutError) else "timed out"
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            reason = innermost(error)
    raise Refused(f"{reason}; tried {tries} times")


def download(address, timeout_s, slowest_bytes_per_s):
    """Return the body (bytes) of the response from an address, with a progress bar in a terminal."""
    begin, content = time.monotonic(), bytearray()
    print(f"fetching {address}", file=sys.stderr)
    with requests.Session() as session:
        # a proxy cannot reach this machine's own addresses
        session.trust_env = urlsplit(address).hostname not in LOOPBACK
        with session.get(address, stream=True, timeout=timeout_s) as response:
            if response.status_code == 429 or response.status_code >= 500:
                raise OSError(f"status {response.status_code}")
            if response.status_code != 200:
                raise Refused(f"status {response.status_code}")
            with tqdm(total=response.raw.length_remaining, unit="B", unit_scale=True, leave=False, disable=None) as bar:
                # read1 returns as soon as bytes arrive, so that a very slow server is noticed
                while part := response.raw.read1(1 << 16, decode_content=True):
                    content += part
                    bar.update(len(part))
                    passed = time.monotonic() - begin
                    if passed > timeout_s and len(content) < passed * slowest_bytes_per_s:
                        raise TimeoutError(f"{len(content)} bytes in {passed:.0f} s")
    return bytes(content)


def innermost(error):
    """Return the root cause of a failed transfer as a short text."""
    while isinstance(inner := getattr(error, "reason", None) or (error.args or [None])[-1], Exception):
        error = inner
    text = str(error).split("): ", 1)[-1]
    return f"cut off: {text}" if isinstance(error, http.client.IncompleteRead) else text
