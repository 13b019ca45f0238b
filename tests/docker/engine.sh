#!/usr/bin/env bash
# Runs a command with a Docker engine at hand:  tests/docker/engine.sh COMMAND [ARGUMENT ...]
#
# An engine that already answers is used as it is. Otherwise, as root, a private one is started for the
# time of the command: it has networks "host" and "none" only, so that it leaves the machine's firewall
# and routing alone, and it makes its own base image from Debian's packages, so that it needs no registry.
# Where neither works the command still runs, with the reason in KD_SWEEP_NO_DOCKER for the tests' skips.
set -uo pipefail

base_image="python:3.11-slim-bookworm"
suite="bookworm"
room="${KD_SWEEP_ENGINE_DIR:-${TMPDIR:-/tmp}/kd-sweep-engine}"
started=""

answers() { docker version >/dev/null 2>&1; }

give_up() { # the command runs all the same: its Docker tests skip with this reason
  echo "engine.sh: $1" >&2
  export KD_SWEEP_NO_DOCKER="$1"
}

install_packages() {
  command -v dockerd >/dev/null && command -v debootstrap >/dev/null && command -v docker-compose >/dev/null && return 0
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq </dev/null &&
    apt-get install -y -qq --no-install-recommends docker.io docker-compose debootstrap </dev/null
}

start_engine() {
  mkdir -p "$room"
  export DOCKER_HOST="unix://$room/socket"
  setsid dockerd --host "$DOCKER_HOST" --data-root "$room/data" --exec-root "$room/run" --pidfile "$room/pid" \
    --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    </dev/null >"$room/engine.log" 2>&1 &
  started=$!
  local waited
  for ((waited = 0; waited < 60; waited++)); do
    answers && return 0
    kill -0 "$started" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 5 "$room/engine.log" >&2
  return 1
}

package_mirror() { # the address that apt reads this suite from; empty elsewhere: debootstrap has a default
  apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 2>/dev/null |
    awk -v suite="$suite" '$1 == suite && $2 == "main" {print $3; exit}'
}

make_base_image() {
  docker image inspect "$base_image" >/dev/null 2>&1 && return 0
  local root="$room/base"
  rm -rf "$root"
  # A root that is thrown away need not survive a power cut: no syncing.
  DPKG_FORCE=unsafe-io debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
    "$suite" "$root" $(package_mirror) </dev/null >"$room/base.log" 2>&1 || return 1
  trust_what_the_machine_trusts "$root" && imitate_the_official_image "$root" || return 1
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/etc/resolv.conf "$root"/etc/hostname
  tar --create --numeric-owner --one-file-system --directory "$root" . |
    docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
      --change 'CMD ["python3"]' - "$base_image" >/dev/null || return 1
  rm -rf "$root"
}

trust_what_the_machine_trusts() { # a package index behind a proxy may need the machine's own certificates
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$1/usr/local/share/ca-certificates/" \; 2>/dev/null
  chroot "$1" update-ca-certificates >/dev/null 2>&1
}

imitate_the_official_image() { # `python` and `pip` by their short names, free to install
  rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
  ln -sf /usr/bin/python3 "$1/usr/local/bin/python" && ln -sf /usr/bin/pip3 "$1/usr/local/bin/pip"
}

stop_engine() {
  [ -n "$started" ] || return 0
  kill -TERM "$started" 2>/dev/null
  wait "$started" 2>/dev/null
  umount "$room"/run/netns/* 2>/dev/null
  [ -n "${KD_SWEEP_ENGINE_DIR:-}" ] || rm -rf "$room" # a folder that was named is kept, with its built layers
}

trap stop_engine EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! answers; then
  if [ "$(id -u)" -ne 0 ]; then
    give_up "no Docker engine answers, and only root can start one"
  elif ! install_packages >/dev/null; then
    give_up "no Docker engine answers, and its Debian packages could not be installed"
  elif ! start_engine; then
    give_up "no Docker engine answers, and a private one did not start"
  elif ! make_base_image; then
    give_up "the base image $base_image could not be made: see $room/base.log"
  fi
fi
"$@"
