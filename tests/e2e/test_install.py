"""What `make install` leaves behind, and programs that are built on nothing else."""
import fcntl
import json
import os
import platform
import re
import shlex
import subprocess
from signal import SIGINT

import pytest

from harness.waiting import wait
from harness.worker import ROOT, Log, environment

EXAMPLE = ROOT / "examples/embed"
STATIC = """\
cmake_minimum_required(VERSION 3.20)
project(small LANGUAGES C)
find_package(leveret 0.1 REQUIRED COMPONENTS static)
add_executable(small main.c)
target_link_libraries(small PRIVATE leveret::leveret-static)
"""
SMALL = """\
#include <leveret/leveret.h>
#include <stdio.h>

int main(void) {
    struct leveret_config *config;
    struct leveret_error err;
    if (leveret_config_new(&config, &err) != LEVERET_OK ||
        leveret_config_set(config, "log.levle", "info", &err) != LEVERET_CONFIG)
        return 1;
    leveret_config_free(config);
    printf("%s: %s\\n", leveret_version(), err.text);
    return 0;
}
"""


def run(*command, cwd=None, env=None):
    result = subprocess.run([str(word) for word in command], cwd=cwd, text=True, timeout=300,
                            env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                            capture_output=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


class Installed:
    """A build without sanitizers, as users make it, installed below a folder."""

    def __init__(self, root):
        self.prefix = root / "usr"
        self.library = next(self.prefix.glob("lib*/**/libleveret.so")).parent
        self.run_env = {"LD_LIBRARY_PATH": str(self.library)}

    def pkg_config(self, *arguments):
        return shlex.split(run("pkg-config", f"--define-variable=prefix={self.prefix}", *arguments,
                               "leveret",
                               env={"PKG_CONFIG_PATH": str(self.library / "pkgconfig")}))

    def cmake(self, source, build):
        run("cmake", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}",
            "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror")
        run("cmake", "--build", build)
        return build


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    build = ROOT / "build/plain"
    root = tmp_path_factory.mktemp("root")
    build.mkdir(parents=True, exist_ok=True)
    with open(f"{build}.lock", "a", encoding="ascii") as lock:  # two runs in one checkout
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("cmake", "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release",
            "-DLEVERET_BENCH=ON", "-DCMAKE_INSTALL_PREFIX=/usr")
        run("cmake", "--build", build, "--parallel", os.cpu_count())
        run("cmake", "--install", build, env={"DESTDIR": str(root)})
    return Installed(root)


@pytest.fixture(scope="module")
def by_cmake(installed, tmp_path_factory):
    return installed.cmake(EXAMPLE, tmp_path_factory.mktemp("cmake")) / "embed"


@pytest.fixture(scope="module")
def by_pkg_config(installed, tmp_path_factory):
    program = tmp_path_factory.mktemp("pkg-config") / "embed"
    run("cc", "-Wall", "-Wextra", "-Werror", EXAMPLE / "main.c", "-o", program,
        *installed.pkg_config("--cflags", "--libs"))
    return program


def test_everything_is_there(installed):
    for name in ("bin/leveret", "include/leveret/leveret.h", "include/leveret/error.h",
                 "include/leveret/plugin.h", "share/leveret/handlers/opsdesk/ticket.created.lua",
                 "share/leveret/handlers/messaging/notification.lua",
                 "share/leveret/sql/0001_ledger.sql", "share/man/man1/leveret.1",
                 "share/man/man5/leveret.lua.5"):
        assert (installed.prefix / name).is_file(), name
    for name in ("libleveret.a", "leveret/plugins/email.so", "pkgconfig/leveret.pc", "cmake/leveret/leveret-config.cmake",
                 "cmake/leveret/leveret-config-version.cmake"):
        assert (installed.library / name).is_file(), name


def test_the_program_needs_no_library_of_ours(installed):
    assert "libleveret" not in run("ldd", installed.prefix / "bin/leveret")
    assert run(installed.prefix / "bin/leveret", "version").startswith("leveret ")


def test_nothing_but_the_interface_is_exported(installed):
    symbols = run("nm", "-D", "--defined-only", installed.library / "libleveret.so")
    exported = sorted(line.split()[2] for line in symbols.splitlines())
    assert exported == (ROOT / "tests/exports.txt").read_text().split()
    assert all(name.startswith("leveret_") for name in exported)


def assert_hardened(path, *, fortified=True):
    """RELRO with everything bound at the start, no executable stack, and the compiler's checks."""
    elf = run("readelf", "-hldW", path)
    assert "Type:                              DYN" in elf
    assert "GNU_RELRO" in elf
    assert re.search(r"FLAGS_1.*\bNOW\b", elf)
    assert re.search(r"GNU_STACK.* RW +0x", elf)
    names = run("nm", "-D", "--undefined-only", path)
    assert "__stack_chk_fail" in names
    assert not fortified or re.search(r"__\w+_chk\b", names.replace("__stack_chk_fail", ""))
    if platform.machine() == "x86_64":
        assert "endbr64" in run("objdump", "-d", "--section=.text", path)


def test_the_program_and_the_library_are_hardened(installed):
    assert_hardened(installed.prefix / "bin/leveret")
    assert_hardened(installed.library / "libleveret.so")
    assert re.search(r"FLAGS_1.*\bPIE\b", run("readelf", "-d", installed.prefix / "bin/leveret"))


@pytest.mark.parametrize("kind", ["Debug", "MinSizeRel", "RelWithDebInfo"])
def test_other_kinds_of_build_are_hardened(tmp_path, kind):
    run("cmake", "-S", ROOT, "-B", tmp_path, "-G", "Unix Makefiles", f"-DCMAKE_BUILD_TYPE={kind}")
    run("cmake", "--build", tmp_path, "--target", "plugin_acts")
    assert_hardened(tmp_path / "tests/plugins/acts.so", fortified=False)
    for entry in json.loads((tmp_path / "compile_commands.json").read_text()):
        assert "-fstack-protector-strong" in entry["command"]
        # It does nothing without optimization, and says so.
        assert ("-D_FORTIFY_SOURCE=" in entry["command"]) == (kind != "Debug")


def test_the_soname_carries_the_minor_version(installed):
    version = installed.pkg_config("--modversion")[0]
    major, minor, _ = version.split(".")
    soname = f"libleveret.so.{major}.{minor}" if major == "0" else f"libleveret.so.{major}"
    assert f"[{soname}]" in run("readelf", "-d", installed.library / "libleveret.so")
    assert (installed.library / soname).resolve().name == f"libleveret.so.{version}"


def test_the_library_stays_mapped(installed):
    """Its signal handler and what runs at the end of threads would be called after a dlclose."""
    assert "NODELETE" in run("readelf", "-d", installed.library / "libleveret.so")


@pytest.mark.parametrize("page", ["man1/leveret.1", "man5/leveret.lua.5"])
def test_man_pages_render_without_a_warning(installed, page):
    path = installed.prefix / "share/man" / page
    result = subprocess.run(["groff", "-man", "-ww", "-Tutf8", path], text=True, timeout=60,
                            capture_output=True, check=True)
    assert result.stderr == ""
    assert "leveret" in result.stdout and not re.search("@[A-Z_]+@", path.read_text())


def test_the_man_page_has_every_key(installed):
    text = (installed.prefix / "share/man/man5/leveret.lua.5").read_text().replace("\\-", "-")
    table = run(installed.prefix / "bin/leveret", "run", "--help-config")
    keys = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert len(keys) > 40
    for key in keys:
        assert f"\\fB{key}\\fR (" in text, key


@pytest.mark.parametrize("compiler", ["cc -std=c99 -x c", "cc -std=c2x -x c", "c++ -x c++"])
@pytest.mark.parametrize("header", ["leveret", "plugin", "error"])
def test_headers_stand_alone(installed, compiler, header, tmp_path):
    source = tmp_path / "source"
    source.write_text(f"#include <leveret/{header}.h>\n")
    run(*compiler.split(), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
        *installed.pkg_config("--cflags"), source)


def test_a_server_on_the_library(installed, tmp_path):
    program = installed.cmake(ROOT / "examples/crud-server", tmp_path / "build") / "crud-server"
    assert "libleveret.so" in run("ldd", program, env=installed.run_env)
    assert run(program, "--help", env=installed.run_env).startswith("usage: ")


def test_a_static_program(installed, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(STATIC)
    (tmp_path / "main.c").write_text(SMALL)
    program = installed.cmake(tmp_path, tmp_path / "build") / "small"
    assert "libleveret" not in run("ldd", program)
    assert 'did you mean "log.level"?' in run(program)


@pytest.mark.parametrize("way", ["by_cmake", "by_pkg_config"])
def test_a_program_with_a_worker_inside(installed, site, tmp_path, request, way):
    program = request.getfixturevalue(way)
    site.queues = {"ticket.created.queue", "ticket.updated.queue"}
    site.broker.delete(*site.queues)
    env = {
        "RABBITMQ_URL": site.services.rabbitmq_url, "DATABASE_URL": site.database_url,
        "REDIS_URL": site.services.redis_url, "LEVERET_RABBITMQ_EXCHANGE": site.exchange,
        "LEVERET_DEAD_LETTER_QUEUE": site.dead_letter, "LEVERET_NAME": site.prefix,
        "LEVERET_ADMIN_LISTEN": "", "LEVERET_LOG_FORMAT": "json", **installed.run_env,
    }
    output = tmp_path / "output"
    with open(output, "wb") as file:
        process = subprocess.Popen([program], cwd=EXAMPLE, stdout=file, stderr=file,
                                   stdin=subprocess.DEVNULL, env=environment(tmp_path, env))
    log = Log(output)
    try:
        wait("its consumers", lambda: process.poll() is not None or
             all(map(site.broker.consumers, site.queues)))
        assert process.poll() is None, log.text()
        ids = {site.publish("ticket.created", {"id": "t-1"}),
               site.publish("ticket.updated", {"id": "t-2"})}
        wait("rows in the ledger", lambda: {row[2] for row in site.ledger()} == ids)
        process.send_signal(SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert log.records(text="created, says C", ticket="t-1")
    assert log.records(text="updated, says Lua", ticket="t-2")
