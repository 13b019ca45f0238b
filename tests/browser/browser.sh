#!/usr/bin/env bash
# Runs a command with a Chromium and its driver at hand:  tests/browser/browser.sh COMMAND [ARGUMENT ...]
#
# Those that are there are used as they are; otherwise, as root, they are installed from Debian's packages.
# Where that does not work the command still runs, with the reason in KD_SWEEP_NO_BROWSER for the tests' skips.
set -uo pipefail

is_there() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }

give_up() { # the command runs all the same: its browser tests skip with this reason
  echo "browser.sh: $1" >&2
  export KD_SWEEP_NO_BROWSER="$1"
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq </dev/null &&
    apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core </dev/null
}

if ! is_there; then
  if [ "$(id -u)" -ne 0 ]; then
    give_up "no Chromium with its driver is installed, and only root can install them"
  elif ! install_packages >/dev/null || ! is_there; then
    give_up "no Chromium with its driver is installed, and Debian's packages could not be"
  fi
fi
"$@"
