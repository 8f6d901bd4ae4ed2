"""Certificates made for a test."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def make_certificate(directory: Path) -> Path:
    """Return a file with a new key and the certificate for `localhost` that it signed itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    file = directory / "own.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2"
    make += " -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*make.split(), "-keyout", directory / "key", "-out", directory / "cert"], check=True, capture_output=True
    )
    file.write_text((directory / "key").read_text() + (directory / "cert").read_text())
    return file


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context
