"""The description of the interface of the control socket, as Varlink has it."""

from __future__ import annotations

DESCRIPTION = """\
# How tcp-keepalived is, and what it does. Durations are seconds; null means unknown or never.
interface internal.tcp-keepalived

# Connections by verdict; see keepalivectl(1). So many of the safe ones are safe only if the timeout of their path is as
# long as it is guessed to be
type Connections (
  total: int,
  namespaces: int,
  unknown: int,
  safe: int,
  late: int,
  bare: int,
  cut: int,
  guessed: int
)

# A setting of the system, by the kernel's name: what the configuration wants, what stands, and what stood before;
# note says why something else stands than is wanted, or ""
type Setting (name: string, wanted: int, stands: ?int, before: ?int, note: string)

# The last scan of all sockets: how long ago it ended, and how long it took
type Scan (ago: float, took: float, interval: float)

# What became of sockets that were to be armed, since the start
type Arming (result: string, count: int)

# Connections of a path and unit that ended since the start: foretold by a warning, not foretold, and not foreseeable;
# and times without data, longer than the idle timeout of the path, that connections armed by this daemon survived. The
# 100 largest; the unit is "" where it is not known or a login session
type Ends (path: string, unit: string, foretold: int, missed: int, unforeseeable: int, saved: int)

# Network namespaces that are not watched: those that may not be entered, those that are too many, those that do not
# answer, and those of which sockets are missing, by inode (of incomplete, 0 is the daemon's own). At most 100 of a kind
# are named, the daemon's own first. hidden: whether there are processes whose namespaces are unknown
type Unwatched (forbidden: int, surplus: int, hidden: bool, silent: []int, crowded: []int, incomplete: []int)

# Connections at risk of a unit, or of a user where the unit is not known or a login session (then it is ""), by the
# last scan. The path forgets the first in so many seconds, or did so if negative; sure is false where a packet may have
# gone by unseen.
type AtRisk (unit: string, user: int, verdict: string, count: int, sure: bool, left: ?float)

# Connections by verdict
type Verdicts (unknown: int, safe: int, late: int, bare: int, cut: int)

# What connections that no configured path concerns have shown by one interface and next hop ("" without a router),
# where they take several: silences survived, the longest of them, deaths, and the shortest silence in which one died;
# advice says what contradicts the timeout there, or ""
type Route (
  interface: string,
  next_hop: string,
  survived: int,
  longest: float,
  died: int,
  shortest: float,
  advice: string
)

# The network between this host and peers, with its idle timeout; source is configured, measured, preset, guess, ...
# What keeps connections there counts as packets or data. connections are those of the last scan.
# Since the start so many of its connections ended otherwise than by an ordinary close; saved counts the times without
# data, longer than the timeout, that those survived which this daemon armed. advice says what contradicts the timeout,
# and what to write.
type Path (
  name: string,
  timeout: ?float,
  source: string,
  detail: string,
  networks: []string,
  ports: []int,
  interface: string,
  counts: string,
  connections: Verdicts,
  ended: int,
  saved: int,
  advice: string,
  routes: []Route
)

# Say how the daemon is. Without a problem, problems is empty; restores says whether a stop restores the settings.
# at_risk begins with the most urgent. It has at most 100, units before users: there are others where the counts in it
# come to less than the connections that are late, bare or cut.
method Status() -> (
  version: string,
  pid: int,
  netns: int,
  running: float,
  applied: bool,
  settings: []Setting,
  engine: string,
  unseen: string,
  connections: Connections,
  scan: ?Scan,
  arming: []Arming,
  ends: []Ends,
  at_risk: []AtRisk,
  restores: bool,
  unwatched: Unwatched,
  problems: []string
)

# List the paths, the default one first
method ListPaths() -> (paths: []Path)

# One end of a connection
type Endpoint (address: string, port: int)

# Where an idle timeout comes from: configured, measured, firewall, preset, evidence, platform, guess
type Origin (source: string, detail: string)

# Who holds a socket; 0 and "" mean unknown
type Owner (pid: int, process: string, unit: string, container: string)

# A connection, as keepalivectl sockets --json has it. Times are from now, as if no packet had passed since the last
# scan: due_in that of the next packet, left that after which the path forgets it, negative once it did. The
# verdict, one of unknown, safe, late, bare, cut, is certain if confirmed. What keeps it counts as packets or data.
# unanswered_after is the silence after which the first packet left that is not answered, at most, if there is one.
type Connection (
  cookie: int,
  netns: int,
  inode: int,
  uid: int,
  cgroup: int,
  local: Endpoint,
  remote: Endpoint,
  state: string,
  keepalive: string,
  verdict: string,
  due: string,
  due_in: ?float,
  idle: ?float,
  left: ?float,
  keepidle: ?float,
  path: string,
  timeout: ?float,
  origin: Origin,
  confirmed: bool,
  counts: string,
  subflow: bool,
  unanswered_after: ?float,
  owner: Owner
)

# List the connections of the last scan, which ended so many seconds ago; call it with more. Each reply has some of
# them, in the order of their cookies, and the last one may have none. Of an owner only the unit is known here.
# units and paths are patterns; peers, and addresses of either end, are addresses or networks; of several values of one
# filter any counts. A filter has at most 16 values, of at most 256 characters each, and its patterns with * ? or [ have
# 256 characters together.
method ListConnections(
  units: ?[]string,
  verdicts: ?[]string,
  paths: ?[]string,
  peers: ?[]string,
  addresses: ?[]string,
  ports: ?[]int,
  users: ?[]int,
  namespaces: ?[]int
) -> (age: ?float, connections: []Connection)

# Numbers, one for each socket, or a single one for all: octets in base64, and their type as NumPy names it
type Column (type: string, octets: string)

# List what the daemon remembers of the sockets of its last scan, for keepalivectl watch of the same version, which
# judges scans of its own by it; call it with more. Each reply has some sockets, in the order of their cookies.
# scanned_at is the instant of the scan by the clock of the daemon: where it differs among replies, a scan came between.
method ListMemory() -> (scanned_at: ?float, columns: [string]Column)

# A network namespace by its inode, with its connections by verdict
type Namespace (inode: int, total: int, unknown: int, safe: int, late: int, bare: int, cut: int)

# List the network namespaces in which the last scan found connections; call it with more. Each reply has some of them
method ListNamespaces() -> (namespaces: []Namespace)

# How many connections ended by a cause; docs/deaths.md explains each
type Cause (cause: string, count: int)

# A connection that ended; or, with a count of more than one, an example of so many that the same cause ended: other
# unit, path and foretold may differ among them. others are causes that one host cannot tell from it, confidence goes
# up to 1, silence is the time without a packet before. foretold says whether a warning came before, and warned how
# long before; signal and closer are what ended it on this host.
type Death (
  ago: float,
  count: int,
  cookie: int,
  netns: int,
  uid: int,
  local: Endpoint,
  remote: Endpoint,
  owner: Owner,
  cause: string,
  confidence: float,
  others: []string,
  silence: ?float,
  path: string,
  timeout: ?float,
  origin: Origin,
  foretold: string,
  warned: ?float,
  signal: int,
  closer: string,
  closer_pid: int,
  evidence: []string
)

# Return what is known of connections that ended since the start: counts by cause, how many ended in the ordinary
# way, how many of those that keepalivectl measure had opened ended otherwise, and of how many nothing is known; and
# the last ones that were reported, the newest first
method ListDeaths() -> (causes: []Cause, ordinary: int, measured: int, lost: int, deaths: []Death)

# Keepalive of a socket, and the times that hold when it is on
type Keepalive (on: bool, idle: int, interval: int, probes: int)

# How a socket was armed: what stood there, and what was set. Of the times before, the socket took those that were
# inherited from its network namespace; null where that is not known.
type Armed (before: Keepalive, after: Keepalive, inherited: ?[]string)

# A key of the configuration, with its value
type Key (key: string, value: string)

# The three times of keepalive
type Times (idle: int, interval: int, probes: int)

# A connection, and why it is as it is. stands is what its socket has now, null where it cannot be read, and unread
# says why; inherited are those of its times that follow its network namespace, whose times are system; user_timeout
# is its TCP_USER_TIMEOUT. armed says how it was armed by us, recorded the same although its program may have changed
# it since; left_alone whether it was changed since and is left. rule is the one that matches, with its action and the
# times that it would set on this path; decision what it comes to for this socket, with the keepalive that it would
# set, or "" where it is not at risk. remedy are the keys of an [[arm]] rule that would keep it alive; hopeless why
# none would. left_until_reload says that the daemon has considered the socket before, and does so again only after a
# reload.
type Explanation (
  connection: Connection,
  stands: ?Keepalive,
  unread: string,
  inherited: []string,
  user_timeout: ?float,
  system: ?Times,
  armed: ?Armed,
  recorded: ?Armed,
  left_alone: bool,
  rule: string,
  action: string,
  times: ?Times,
  decision: string,
  sets: ?Keepalive,
  remedy: []Key,
  hopeless: string,
  left_until_reload: bool
)

# Explain connections of the last scan, as keepalivectl why does: those with one of these cookies or inodes, of these
# units (patterns, as many and as long as those of ListConnections), or with one of these ends: at most 256, the most
# urgent of each user, in turn. The most urgent of all come first; more counts the others.
method Explain(
  cookies: ?[]int,
  inodes: ?[]int,
  units: ?[]string,
  ends: ?[]Endpoint
) -> (explained: []Explanation, more: int)

# Arm a connection of the last scan, as keepalivectl arm does; only root may. Without idle it is the longest that
# fits the path, all else is as configured. result says what became of it: armed, already set, changed since, owner
# not found, ... A result other than armed is no error. before and after are what its socket had, and has.
method Arm(cookie: int, idle: ?int, interval: ?int, probes: ?int) -> (
  result: string,
  before: ?Keepalive,
  after: ?Keepalive,
  message: string
)

# Put back what stood in the socket of a connection before it was armed, as keepalivectl disarm does; only root may.
# It is left alone from then on. result is disarmed, already set, changed since, ..., or "not armed"
method Disarm(cookie: int) -> (result: string, before: ?Keepalive, after: ?Keepalive, message: string)

# Count the ends of connections with these cookies apart, as measured, and log none of them: they measure a path, and
# exist to be forgotten. keepalivectl measure says so of each; only root may, so that nobody hides the end of another
# connection. Of 16384 and more the oldest are forgotten
method Measuring(cookies: []int) -> ()

# Write into the arming record what was armed at connect, so that others find it there; only root may
method Record() -> ()

# Follow the configuration as it is now, and answer when that is done; only root may. If it is wrong, the old one
# stays
method Reload() -> ()

# Scan now, and answer when that is done; only root may. A change is seen then, and not at the next interval
method Scan() -> ()

# Restore these settings of the system, or all: write the values that were found before the daemon set them, as
# keepalivectl undo does; only root may. The daemon leaves these settings as they are until the next Reload or start.
# restored names those that were written, messages say what became of each, refused why one could not be written; then
# status is not 0, but as the exit status of a program (sysexits.h).
# With the name of a setting that does not exist it restores nothing, and Failed names it.
method Restore(settings: ?[]string) -> (
  restored: []string,
  messages: []string,
  refused: string,
  status: int
)

# A number of a metric; suffix goes on its name, such as _bucket
type Sample (value: float, labels: [string]string, suffix: string)

# A metric for Prometheus; kind is gauge, counter, summary or histogram
type Metric (name: string, kind: string, help: string, samples: []Sample)

# Return what there is to measure; see keepalivectl metrics
method Metrics() -> (metrics: []Metric)

# Send each entry of the log as it comes; call it with more. Fields are those that the journal gets. A message has
# several lines where configuration to paste follows it.
method Monitor() -> (event: string, priority: int, message: string, fields: object)

# The last scan has not found this connection, or it is not watched
error NoSuchConnection (cookie: int)

# The daemon does not find out units, because of autopsy.enabled = false, so it cannot select by them
error UnitsNotKnown ()

# What was asked for was not done
error Failed (reason: string)
"""
