"""The service files of systems without systemd: their scripts run for real, on stand-ins for what calls them."""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from keepaliveD.cli import daemon
from tests.support.patience import SOON

pytestmark = pytest.mark.long  # each starts shells, and some the daemon
ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
SCHEMAS = ROOT / "tests/packaging/schema"
FREEBSD = PACKAGING / "freebsd/files/tcp_keepalived.in"
OPENBSD = PACKAGING / "openbsd/tcp_keepalived"
SMF = PACKAGING / "smf/tcp-keepalived.xml"
METHOD = PACKAGING / "smf/tcp-keepalived"
LAUNCHD = PACKAGING / "launchd/net.tcp-keepalived.plist"

DAEMON_8 = """\
#!/bin/sh
# daemon(8): takes the options of FreeBSD's manual page and no others, then says what it would run
while getopts cfHrSC:l:m:o:P:p:R:s:T:t:u: option; do
	case $option in
	P) supervisor=$OPTARG ;;
	p) child=$OPTARG ;;
	'?') exit 64 ;;
	esac
done
shift $((OPTIND - 1))
echo $$ > "$supervisor"; echo $$ > "$child"
printf '%s\\n' "$@"
"""

RC_SUBR_OF_FREEBSD = """\
# the part of rc.subr(8) that the script leans on
load_rc_config() { . "$RC_CONF"; }
run_rc_command() {
	case " start stop $extra_commands " in *" $1 "*) ;; *) echo "unknown directive $1" >&2; exit 1 ;; esac
	eval "enabled=\\$$rcvar before=\\${$1_precmd:-} instead=\\${$1_cmd:-}"
	if [ "$1" = start ] && [ "$enabled" != YES ]; then echo "not enabled" >&2; exit 1; fi
	for file in $required_files; do [ -r "$file" ] || { echo "$file is not readable" >&2; exit 1; }; done
	if [ -n "$before" ]; then $before || exit 1; fi
	if [ -n "$instead" ]; then $instead; else eval "$command $command_args"; fi
}
"""

RC_SUBR_OF_OPENBSD = """\
rc_cmd() { case $1 in start) rc_configtest && rc_pre && printf '%s\\n' "$pexp" "$rc_bg" $daemon $daemon_flags ;; esac; }
"""

SMF_INCLUDE = "SMF_EXIT_OK=0 SMF_EXIT_ERR_FATAL=95 SMF_EXIT_ERR_CONFIG=96 SMF_EXIT_ERR_PERM=100\n"


class Installed:
    """A script in a root directory of a test's, with the real keepalivectl."""

    def __init__(self, root: Path, script: Path, prefix: str) -> None:
        self.root = root
        self.config = self.put("etc/tcp-keepalived/config.toml", (ROOT / "etc/tcp-keepalived/config.toml").read_text())
        text = script.read_text().replace("%%PREFIX%%", f"{prefix}")
        self.script = self.put("script", re.sub(r"(?<![\w}])(?=/(?:etc|usr|var|lib)/)", str(root), text))
        self.put(
            f"{prefix}/bin/keepalivectl",
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from keepaliveD.cli.ctl import main\nsys.exit(main())\n",
        )
        self.put(f"{prefix}/bin/tcp-keepalived", '#!/bin/sh\nprintf \'%s\\n\' "$0" "$@"\n')

    def put(self, path: str, text: str) -> Path:
        """A file below the root; `path` may begin with a slash."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
        return file

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(self.script), *arguments],
            env={"PATH": os.environ["PATH"], "RC_CONF": str(self.root / "etc/rc.conf")},
            capture_output=True,
            text=True,
            timeout=SOON,
            check=False,
        )


def understood(command: list[str]) -> dict[str, object]:
    """What the daemon's own parser makes of a service file's command line."""
    return vars(daemon.parser().parse_args(command))


OURS = sorted((ROOT / "script").iterdir())


@pytest.mark.parametrize(
    ("script", "shell"), [(FREEBSD, "sh"), (OPENBSD, "ksh"), (METHOD, "sh"), *((script, "sh") for script in OURS)]
)
def test_scripts_are_clean_to_shellcheck(script: Path, shell: str) -> None:
    checked = subprocess.run(["shellcheck", "-s", shell, str(script)], capture_output=True, text=True, check=False)
    assert checked.stdout + checked.stderr == ""


# FreeBSD


@pytest.fixture
def freebsd(tmp_path: Path) -> Installed:
    installed = Installed(tmp_path, FREEBSD, "/usr/local")
    installed.put("usr/local/etc/tcp-keepalived/config.toml", installed.config.read_text())
    installed.put("usr/sbin/daemon", DAEMON_8)
    installed.put("etc/rc.subr", RC_SUBR_OF_FREEBSD)
    installed.put("etc/rc.conf", "tcp_keepalived_enable=YES\n")
    (tmp_path / "var/run").mkdir(parents=True)
    return installed


def test_freebsd_starts_it_under_daemon(freebsd: Installed) -> None:
    started = freebsd.run("start")
    program, *arguments = started.stdout.splitlines()
    options = understood(arguments)
    assert (started.returncode, started.stderr) == (0, "")
    assert program == f"{freebsd.root}/usr/local/bin/tcp-keepalived"
    assert options["log_format"] == "syslog"
    assert options["config"] == freebsd.root / "usr/local/etc/tcp-keepalived/config.toml"
    assert options["state_dir"] == freebsd.root / "var/db/tcp-keepalived"
    assert (freebsd.root / "var/db/tcp-keepalived").stat().st_mode & 0o777 == 0o700


def test_freebsd_follows_rc_conf(freebsd: Installed) -> None:
    other = freebsd.put("etc/other.toml", "")
    freebsd.put(
        "etc/rc.conf", f"tcp_keepalived_enable=YES tcp_keepalived_config={other} tcp_keepalived_args=--dry-run\n"
    )
    options = understood(freebsd.run("start").stdout.splitlines()[1:])
    assert (options["config"], options["dry_run"]) == (other, True)


def test_freebsd_does_not_start_what_nobody_enabled(freebsd: Installed) -> None:
    freebsd.put("etc/rc.conf", "")
    assert (freebsd.run("start").returncode, freebsd.run("start").stdout) == (1, "")


@pytest.mark.parametrize("word", ["start", "reload", "configtest"])
def test_freebsd_refuses_a_wrong_configuration_before_anything_happens(freebsd: Installed, word: str) -> None:
    """daemon -r would start it again and again."""
    freebsd.put("usr/local/etc/tcp-keepalived/config.toml", "[keepalive]\nidle = 180\n")
    refused = freebsd.run(word)
    assert refused.returncode != 0
    assert "keepalive.idle" in refused.stderr
    assert refused.stdout == ""


def test_freebsd_reloads_the_daemon_and_not_its_supervisor(freebsd: Installed) -> None:
    """daemon(8) takes SIGHUP for itself."""
    waiting = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP}); print('ready', flush=True);"
        "print(signal.sigwait({signal.SIGHUP}).name)"
    )
    with subprocess.Popen([sys.executable, "-c", waiting], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            freebsd.put("var/run/tcp-keepalived.pid", f"{child.pid}\n")
            freebsd.put("var/run/tcp-keepalived.supervisor.pid", "supervisor\n")
            assert freebsd.run("reload").returncode == 0
            assert child.communicate(timeout=SOON)[0] == "SIGHUP\n"
        finally:
            child.kill()


def test_the_port_installs_what_it_lists() -> None:
    """The list of files, and the rules that put them there."""
    makefile = (PACKAGING / "freebsd/Makefile").read_text()
    listed = re.findall(r"share/man/man\d/(\S+)\.gz", (PACKAGING / "freebsd/pkg-plist").read_text())
    assert sorted(listed) == sorted(re.findall(r"made/man/(\S+)", makefile))
    assert "USE_RC_SUBR=	tcp_keepalived\n" in makefile
    for library in ("numpy", "psutil", "pydantic"):
        assert library in makefile


# OpenBSD


@pytest.fixture
def openbsd(tmp_path: Path) -> Installed:
    installed = Installed(tmp_path, OPENBSD, "/usr/local")
    installed.put("etc/rc.d/rc.subr", RC_SUBR_OF_OPENBSD)
    return installed


def test_openbsd_starts_it_in_the_background_and_finds_it_again(openbsd: Installed) -> None:
    started = openbsd.run("start")
    pattern, background, program, *arguments = started.stdout.splitlines()
    assert (started.returncode, background) == (0, "YES")
    assert understood(arguments)["log_format"] == "syslog"
    as_ps_shows_it = " ".join(["/usr/local/bin/python3.12", program, *arguments])
    assert re.fullmatch(pattern, as_ps_shows_it)
    assert (openbsd.root / "var/db/tcp-keepalived").is_dir()


def test_openbsd_refuses_a_wrong_configuration(openbsd: Installed) -> None:
    openbsd.config.write_text("nonsense")
    refused = openbsd.run("start")
    assert refused.stdout == ""
    assert "config.toml" in refused.stderr


# Solaris and illumos


@pytest.fixture
def smf(tmp_path: Path) -> Installed:
    installed = Installed(tmp_path, METHOD, "/usr")
    installed.put("lib/svc/share/smf_include.sh", SMF_INCLUDE)
    return installed


def test_the_method_becomes_the_daemon(smf: Installed) -> None:
    program, *arguments = smf.run().stdout.splitlines()
    assert program == f"{smf.root}/usr/bin/tcp-keepalived"
    assert understood(arguments)["log_format"] == "syslog"
    assert (smf.root / "var/lib/tcp-keepalived").is_dir()


def test_the_method_says_in_smfs_terms_that_the_configuration_is_wrong(smf: Installed) -> None:
    """96 is SMF_EXIT_ERR_CONFIG: maintenance at once, and not after many starts."""
    smf.config.write_text("nonsense")
    assert (smf.run().returncode, smf.run().stdout) == (96, "")


def test_the_method_says_that_the_program_is_missing(smf: Installed) -> None:
    (smf.root / "usr/bin/tcp-keepalived").unlink()
    missing = smf.run()
    assert missing.returncode == 96
    assert "usr/bin/tcp-keepalived: missing" in missing.stdout


def valid(schema: str, document: Path) -> bool:
    """Whether xmllint finds it in order, without any network."""
    command = ["xmllint", "--nonet", "--noout", "--relaxng", str(SCHEMAS / f"{schema}.rng"), str(document)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 3), checked.stderr  # 3: it does not validate
    return checked.returncode == 0


def test_the_manifest_is_valid() -> None:
    assert valid("smf", SMF)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("<single_instance/>", ""),
        (' grouping="require_all"', ""),
        ('restart_on="none"', 'restart_on="never"'),
        ('timeout_seconds="60"', ""),
        ("exec_method", "exec_methods"),
        ('<stability value="Unstable"/>', '<stability value="Fresh"/>'),
    ],
)
def test_a_manifest_that_is_not_in_order_is_found_out(tmp_path: Path, right: str, wrong: str) -> None:
    text = SMF.read_text()
    changed = text.replace(right, wrong)
    if right == "<single_instance/>":  # at the wrong place, which the order forbids
        changed = changed.replace("</service>", f"{right}</service>")
    assert changed != text
    broken = tmp_path / "broken.xml"
    broken.write_text(changed)
    assert not valid("smf", broken)


def test_the_manifest_starts_the_method_and_asks_for_no_more_privilege_than_ipadm_needs() -> None:
    service = ElementTree.parse(SMF).getroot()
    methods = {each.get("name"): each.get("exec") for each in service.iter("exec_method")}
    assert methods == {"start": "/lib/svc/method/tcp-keepalived", "stop": ":kill", "refresh": ":kill -HUP"}
    (credential,) = service.iter("method_credential")
    assert credential.get("privileges") == credential.get("limit_privileges") == "basic,sys_ip_config"
    (duration,) = service.iter("propval")
    assert (duration.get("name"), duration.get("value")) == ("duration", "child")


# macOS


def test_the_property_list_is_valid() -> None:
    assert valid("plist", LAUNCHD)


@pytest.mark.parametrize(
    ("right", "wrong"), [("<true/>", ""), ("integer", "number"), ('<plist version="1.0"', "<plist")]
)
def test_a_property_list_that_is_not_in_order_is_found_out(tmp_path: Path, right: str, wrong: str) -> None:
    text = LAUNCHD.read_text()
    assert right in text
    broken = tmp_path / "broken.plist"
    broken.write_text(text.replace(right, wrong))
    assert not valid("plist", broken)


def test_launchd_starts_it_in_the_foreground_and_again_when_it_failed() -> None:
    job = plistlib.loads(LAUNCHD.read_bytes())
    assert understood(job["ProgramArguments"][1:])["log_format"] == "syslog"
    assert job["Label"] == LAUNCHD.stem
    assert job["KeepAlive"] == {"SuccessfulExit": False}
    assert job["Umask"] == 0o077
    assert "Program" not in job
