"""`seawall certs`: the certificates of mutual TLS."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from seawall.certs.authority import LOCAL_HOSTS, Authority
from seawall.certs.errors import CertsError
from seawall.certs.inspect import Finding, findings
from seawall.screen import Screen, complain

__all__ = ["certs"]

_DEFAULT_SERVICES = ("backend", "db")


def certs(options: Any) -> int:
    """Do what the action says and return the exit code: 1 when `check` found something, 2 for what cannot be done."""
    actions: dict[str, Callable[[Any, Authority, Screen], int]] = {
        "init": _init,
        "issue": _issue,
        "renew": _renew,
        "revoke": _revoke,
        "show": _show,
        "check": _check,
    }
    try:
        _check_words(options)
        return actions[options.action](options, Authority(options.dir), Screen())
    except CertsError as error:
        complain(f"seawall certs: {error}")
        return 2


def _check_words(options: Any) -> None:
    if options.days < 1:
        raise CertsError(f"--days is {options.days}; it must be at least 1")
    if options.name and options.action != "init":
        raise CertsError(f"--name is for init; `seawall certs {options.action} SERVICE…` takes services as they are")
    if options.services and options.action not in ("issue", "renew", "revoke"):
        raise CertsError(f"{options.action} takes no services; init has --name")


def _init(options: Any, authority: Authority, screen: Screen) -> int:
    named = dict.fromkeys(_DEFAULT_SERVICES, LOCAL_HOSTS) | dict(_named(text) for text in options.name)
    authority.begin(options.key)
    screen.write(f"{authority.cert_path('ca')}  a new CA; keep {authority.key_path('ca')} where nobody else reads it")
    for name, hosts in named.items():
        authority.issue(name, kind=options.key, days=options.days, hosts=hosts)
        screen.write(f"{authority.cert_path(name)}  {options.days} days, for {name} at {', '.join(hosts)}")
    return 0


def _issue(options: Any, authority: Authority, screen: Screen) -> int:
    for text in _wanted(options):
        name, hosts = _named(text)
        authority.issue(name, kind=options.key, days=options.days, hosts=hosts)
        screen.write(f"{authority.cert_path(name)}  {options.days} days, for {name} at {', '.join(hosts)}")
    return 0


def _renew(options: Any, authority: Authority, screen: Screen) -> int:
    for name in _wanted(options):
        made = authority.renew(name, days=options.days, new_key=options.new_key)
        until = f"{made.not_valid_after_utc:%Y-%m-%d}"
        screen.write(f"{authority.cert_path(name)}  until {until}; send SIGHUP to who uses it")
    return 0


def _revoke(options: Any, authority: Authority, screen: Screen) -> int:
    for name in _wanted(options):
        how = "revoked" if authority.revoke(name) else "was revoked already"
        screen.write(f"{authority.cert_path(name)}  {how}; send SIGHUP to who reads {authority.crl_path}")
    return 0


def _show(options: Any, authority: Authority, screen: Screen) -> int:
    for finding in _findings(options, authority):
        screen.write(_line(finding))
    return 0


def _check(options: Any, authority: Authority, screen: Screen) -> int:
    found = [finding for finding in _findings(options, authority) if finding.state != "good"]
    for finding in found:
        screen.write(_line(finding))
    if not found:
        screen.write(f"{authority.folder}: all certificates are good for more than {options.warn} days")
    return 1 if found else 0


def _findings(options: Any, authority: Authority) -> list[Finding]:
    return findings(authority, now=datetime.datetime.now(datetime.UTC), warn_days=options.warn)


def _line(finding: Finding) -> str:
    until = "" if finding.not_after is None else f"until {finding.not_after:%Y-%m-%d %H:%M} UTC"
    return "  ".join(
        part for part in (finding.name, finding.state, until, ", ".join(finding.hosts), finding.detail) if part
    )


def _wanted(options: Any) -> list[str]:
    if not options.services:
        raise CertsError(f"{options.action} needs the name of a service: `seawall certs {options.action} SERVICE`")
    return list(options.services)


def _named(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the service and its hosts out of `web` or `web=web.internal,10.0.0.7`."""
    name, _, hosts = text.partition("=")
    return name, tuple(host.strip() for host in hosts.split(",") if host.strip()) or LOCAL_HOSTS
