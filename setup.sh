#!/bin/sh
# What the Makefile runs before a target, once. A stamp is the last thing written, so an interrupted run starts over.
#
#   setup.sh python          .venv from requirements.lock, with the project in it      stamp: .venv/.ready
#   setup.sh packages GROUP  Debian packages; GROUP is lab or tests, see doctor.py     stamp: .venv/.packages-GROUP

set -eu
cd "$(dirname "$0")"

say() { echo "calico_lab: $*" >&2; }
stop() { say "$*"; exit 3; }
can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "installing Debian packages:" "$@"
    set -- apt-get -qq -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "$@"
    export DEBIAN_FRONTEND=noninteractive
    # The package lists are fetched only if they are missing or too old to install from.
    "$@" >/dev/null 2>&1 || { apt-get -qq update && "$@" >/dev/null; }
}

find_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    done
    return 1
}

set_up_python() {
    if ! command -v python3 >/dev/null && can_install; then apt_install python3 python3-venv; fi
    find_python || stop "Python 3.11 or newer is needed; found: $(python3 --version 2>/dev/null || echo none);" \
        "install it with its venv module, for example: sudo apt-get install python3.11-venv"

    # Without a stamp, what is there was interrupted half-way.
    if ! { [ -e .venv/.ready ] && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
        # Debian's Python comes without ensurepip.
        if ! "$python" -c 'import ensurepip' 2>/dev/null; then
            package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
            can_install || stop "$python cannot make a virtual environment; run: sudo apt-get install $package"
            apt_install "$package"
        fi
        "$python" -m venv --clear .venv
    fi
    rm -f .venv/.ready

    printf 'calico_lab: installing the locked Python packages into .venv ... ' >&2
    install_locked
    # The build backend is in the lock, so nothing is fetched here.
    pip_install --no-deps --no-build-isolation --editable .
    echo "done" >&2
    touch .venv/.ready
}

pip_install() { .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"; }

# uv is some twenty times as fast as pip, but does not read pip's configuration: where a mirror is set, or where uv
# cannot fetch, pip installs the same files. Compiling is worth its time only if nothing may be compiled at first import.
install_locked() {
    if ! .venv/bin/python -m pip config list | grep -E '\.(index-url|no-index)=' >/dev/null; then
        sed -n '/^uv==/,/[^\\]$/p' requirements.lock >.venv/uv.lock
        pip_install --require-hashes --requirement .venv/uv.lock &&
            .venv/bin/uv pip install --quiet --python .venv/bin/python ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} \
                --require-hashes --requirement requirements.lock 2>/dev/null && return
    fi
    pip_install --require-hashes --requirement requirements.lock
}

set_up_packages() {
    missing=$(.venv/bin/python -m calico_lab.doctor "$1")
    # Debian starts a daemon when it installs one. On a machine that boots, these are left to its owner, and the lab
    # does what it can without them. In a container a policy keeps them from starting.
    required=$(printf '%s\n' $missing | grep -vxE 'openssh-server|bird2' || true)
    if [ -d /run/systemd/system ]; then missing=$required; fi
    if [ -n "$missing" ] && can_install; then
        forbid_daemons
        apt_install $missing && required=
    fi
    if [ -n "$required" ]; then
        line="run: sudo apt-get install $(echo $required)"
        [ "$1" = tests ] || stop "the local lab lacks programs; $line; or use PROVIDER=replay, which works anywhere"
        say "tests that lack a program are skipped; to have them all, $line"
    else
        touch ".venv/.packages-$1"
    fi
}

forbid_daemons() {
    policy=/usr/sbin/policy-rc.d
    if [ -e $policy ]; then return; fi
    trap 'rm -f $policy' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
}

case "$*" in
    python) set_up_python ;;
    'packages lab' | 'packages tests') set_up_packages "$2" ;;
    *) stop "usage: setup.sh python | packages lab | packages tests" ;;
esac
