"""
A certificate authority in a folder, for mutual TLS between our own services.

`seawall certs` is its face. It is small on purpose: one CA, one certificate a service, one list of revoked ones. Who
has a PKI already gives its files to nginx and to the gateway, and needs nothing of this.
"""

from __future__ import annotations

from seawall.certs.authority import Authority
from seawall.certs.errors import CertsError
from seawall.certs.inspect import Finding, findings

__all__ = ["Authority", "CertsError", "Finding", "findings"]
