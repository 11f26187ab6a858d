"""A connection as tests of what is said and shown need it."""

from keepaliveD.model.connections import Connection, Due, Endpoint, Owner, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin, Source

BARE = Connection(
    cookie=4711,
    netns=4026531840,
    inode=99,
    uid=1000,
    cgroup=1,
    local=Endpoint("10.1.2.3", 40000),
    remote=Endpoint("10.20.0.9", 10080),
    state="ESTABLISHED",
    keepalive=Shown.OFF,
    verdict=Verdict.BARE,
    due=Due.NOTHING,
    due_in=FOREVER,
    idle=242.0,
    left=58.0,
    keepidle=float("nan"),
    path="office firewall",
    timeout=300.0,
    origin=Origin(Source.CONFIGURED, "/etc/tcp-keepalived/config.toml"),
    confirmed=True,
    owner=Owner(812, "amandad", "amanda@backup.service"),
)
