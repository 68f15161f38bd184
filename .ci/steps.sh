# Shared by .ci/run and .ci/full: steps that count as failures, and what a clean Debian or Ubuntu machine lacks.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null
export CI=true
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
failed_steps=0

step() {
  local name=$1
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  if ! "$@"; then
    printf '== %s FAILED\n' "$name"
    failed_steps=$((failed_steps + 1))
    return 1
  fi
}

has_library() {
  ldconfig -p 2>/dev/null | grep -q "$1"
}

system_packages() {
  local missing=()
  has_library 'libopenblas\.so\.0' || missing+=(libopenblas0)
  # The build with 64-bit integers, which must be refused.
  has_library 'libopenblas64\.so\.0' || missing+=(libopenblas64-0)
  command -v cmake >/dev/null || missing+=(cmake)
  command -v make >/dev/null || missing+=(make)
  command -v g++ >/dev/null || missing+=(g++)
  command -v python3 >/dev/null || missing+=(python3)
  # For the compiler of npm run prebuild.
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  # Both kinds, side by side, for the tests of ranks.
  command -v mpirun.openmpi >/dev/null || missing+=(openmpi-bin)
  command -v mpirun.mpich >/dev/null || missing+=(mpich)
  # For the tests of two hosts.
  PATH=$PATH:/usr/sbin command -v tc >/dev/null || missing+=(iproute2)
  [ ${#missing[@]} -eq 0 ] && return 0
  install_packages "${missing[@]}"
}

install_packages() {
  echo "missing: $*"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
  fi
  # An index that can't be refreshed may still do.
  "${as_root[@]}" apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@"
}

# For the tests of the pages, which fail in CI without one.
browser() {
  command -v chromium chromium-browser google-chrome >/dev/null && return 0
  install_packages chromium
}

install_all() {
  step 'system packages' system_packages
  step 'browser' browser
  step 'install' npm ci --no-audit --no-fund
  step 'wasm' npm run build:wasm
  # The published model of test/serve/smollm.slow.test.ts, into the user's cache folder.
  step 'SmolLM2' node .ci/smollm.js
}
